// The client's address behind proxies that the operator trusts. Pure.
import { BlockList, isIP } from "node:net";

export interface Proxies {
  /** Whether the address is a trusted proxy's. */
  trusts(address: string): boolean;
  /** The client's address behind the connection's, from X-Forwarded-For if a trusted proxy wrote it. */
  clientOf(address: string, forwardedFor: string | undefined): string;
}

/** The most entries of a header that are read. Proxies append, so the last ones count. */
const hopsMax = 16;

/**
 * @param ranges addresses and CIDR ranges such as "10.0.0.0/8" or "2001:db8::/32"; each must pass `isRange`
 */
export function createProxies(ranges: readonly string[]): Proxies {
  const list = new BlockList();
  for (const range of ranges) {
    const [address = "", bits] = range.split("/");
    const family = isIP(address) === 6 ? "ipv6" : "ipv4";
    if (bits === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(bits), family);
  }
  const trusts = (address: string): boolean => {
    const family = isIP(address);
    return ranges.length > 0 && family !== 0 && list.check(address, family === 6 ? "ipv6" : "ipv4");
  };
  return {
    trusts,
    clientOf: (address, forwardedFor) => {
      if (forwardedFor === undefined || !trusts(address)) return address;
      let client = address;
      // From the end: each entry was written by the next hop, which is trusted only if it is one of our proxies.
      for (const entry of forwardedFor.split(",").slice(-hopsMax).reverse()) {
        const hop = plainAddress(entry.trim());
        if (hop === undefined) return client;
        client = hop;
        if (!trusts(hop)) return client;
      }
      return client;
    },
  };
}

/** Whether the text is an address or a CIDR range. */
export function isRange(text: string): boolean {
  const [, address = "", bits] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const family = isIP(address);
  return family !== 0 && (bits === undefined || Number(bits) <= (family === 6 ? 128 : 32));
}

/** The address of "192.0.2.1:80", "[2001:db8::1]:80", "2001:db8::1"; undefined for anything else. */
function plainAddress(entry: string): string | undefined {
  const [, bracketed, dotted] = /^(?:\[([^\]]+)\](?::\d{1,5})?|([\d.]+):\d{1,5})$/.exec(entry) ?? [];
  const address = bracketed ?? dotted ?? entry;
  if (isIP(address) === 0) return undefined;
  return address.toLowerCase().startsWith("::ffff:") && address.includes(".") ? address.slice(7) : address;
}
