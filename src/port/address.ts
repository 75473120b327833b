// Groups IP addresses for limits. Pure.
import { isIPv6 } from "node:net";

/**
 * The key under which an address is limited. An IPv6 line has at least a /64 of addresses (RFC 6177), which count as
 * one. Each IPv4 address counts separately.
 */
export function addressKey(address: string): string {
  const [plain = ""] = address.split("%", 1);
  if (!isIPv6(plain)) return address;
  const [head = "", tail] = plain.split("::");
  const groups = head === "" ? [] : head.split(":");
  if (tail !== undefined) {
    const behind = tail === "" ? 0 : tail.split(":").length;
    while (groups.length < 8 - behind) groups.push("0");
    if (tail !== "") groups.push(...tail.split(":"));
  }
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":")}::/64`;
}
