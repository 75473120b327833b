// The hosts in a URL of the settings, and whether they are inside the cluster. Pure.
import { isIPv4 } from "node:net";

/**
 * Hosts with their ports. A replica set has several, which no URL parser accepts. Empty if the text is not such a URL.
 */
export const mongodbHosts = (url: string): string[] => {
  const hosts = /^mongodb(?:[+]srv)?:[/][/](?:[^@/]*@)?([^/?#@]+)(?:[/?].*)?$/.exec(url)?.[1]?.split(",") ?? [];
  return hosts.every((host) => host !== "" && URL.canParse(`mongodb://${host}`)) ? hosts : [];
};

/** Onions, loopback, and names without a public suffix, as Compose and Kubernetes give them. */
export const staysInside = (host: string): boolean =>
  host.endsWith(".onion") ||
  (isIPv4(host) && host.startsWith("127.")) ||
  host === "[::1]" ||
  (!host.includes(".") && !host.includes(":")) ||
  host.endsWith(".svc") ||
  host.endsWith(".cluster.local");
