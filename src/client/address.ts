// Turns addresses of a service, as people write them, into URLs for our clients.
import { isIPv6 } from "node:net";

/**
 * The URL for "http://host:8083", with or without the scheme. A path is kept, a slash at its end is removed. Undefined
 * if the text is not a service's address.
 */
export function serviceUrl(text: string): string | undefined {
  const given = text.trim();
  const bracketed = isIPv6(given) ? `[${given}]` : given;
  const full = /^[a-z][a-z0-9+.-]*:\/\//i.test(bracketed) ? bracketed : `http://${bracketed}`;
  if (!URL.canParse(full)) return undefined;
  const { protocol, username, password, search, hash, origin, pathname, hostname } = new URL(full);
  const isPlain = username === "" && password === "" && search === "" && hash === "" && hostname !== "";
  if (!["http:", "https:"].includes(protocol) || !isPlain) return undefined;
  return `${origin}${pathname.replace(/\/+$/, "")}`;
}

/** The URL at which a service that listens on the host is reached from its own machine. */
export function localUrl({ host, port, tls }: { readonly host: string; readonly port: number; readonly tls: boolean }) {
  // A URL has no zone, and a service that listens on all addresses also listens on loopback.
  const literal = isIPv6(host) ? `[${host.split("%")[0]}]` : host;
  const { hostname } = new URL(`http://${literal}`);
  const reached = { "0.0.0.0": "127.0.0.1", "[::]": "[::1]" }[hostname] ?? hostname;
  return `${tls ? "https" : "http"}://${reached}:${port}`;
}

/**
 * Options of an HTTP/2 session beside the URL. Node writes an IPv6 address without brackets into :authority, which no
 * server can tell from a host and a port, so this sets the name. (With TLS the name must match the certificate and is
 * not changed.)
 */
export function sessionOptions(baseUrl: string): { readonly servername?: string } {
  const { protocol, hostname } = new URL(baseUrl);
  return protocol === "http:" && hostname.startsWith("[") ? { servername: hostname } : {};
}
