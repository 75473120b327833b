// Addresses of a service as people write them, as URLs that our clients can use.
import { isIPv6 } from "node:net";

/**
 * "http://host:8083" for such a URL, and for the same without its scheme; a path stays, a slash at its end goes.
 * Undefined for what is no address of a service.
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

/** Where a service that listens on the host is reached from its own machine. */
export function localUrl({ host, port, tls }: { readonly host: string; readonly port: number; readonly tls: boolean }) {
  // A zone is no part of a URL, and whoever listens on all addresses listens on loopback, too.
  const literal = isIPv6(host) ? `[${host.split("%")[0]}]` : host;
  const { hostname } = new URL(`http://${literal}`);
  const reached = { "0.0.0.0": "127.0.0.1", "[::]": "[::1]" }[hostname] ?? hostname;
  return `${tls ? "https" : "http"}://${reached}:${port}`;
}

/**
 * What a session over HTTP/2 needs beside the URL: Node writes an IPv6 address without its brackets into :authority, which
 * no server can tell from a host and a port. (With TLS the name belongs to the certificate, and stays.)
 */
export function sessionOptions(baseUrl: string): { readonly servername?: string } {
  const { protocol, hostname } = new URL(baseUrl);
  return protocol === "http:" && hostname.startsWith("[") ? { servername: hostname } : {};
}
