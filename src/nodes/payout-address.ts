// The address that a node is paid to. It is sealed in the node's document, and a changed address is usable only after a
// wait, so that a thief of an operator's token cannot redirect the next payout.
import type { Clock } from "../clock.js";
import type { Vault } from "../crypto.js";
import { malformed } from "../failure.js";
import type { NodeDocument, Patch } from "./node.js";

export type PayoutAddresses = ReturnType<typeof createPayoutAddresses>;

export function createPayoutAddresses(parts: {
  readonly vault: Vault;
  readonly clock: Pick<Clock, "now">;
  readonly cooldownMs: number;
  /** What is wrong with an address; undefined when it is fine. */
  readonly addressProblem: (address: string) => string | undefined;
  /** The address as people may see it. */
  readonly maskAddress: (address: string) => string;
}) {
  const { vault } = parts;
  const usableAt = () => new Date(parts.clock.now().getTime() + parts.cooldownMs);
  return {
    /**
     * The fields of a node with this address; `former` is the node before, undefined for a new node. @throws Failure
     * 4001
     */
    fields: (address: string, former: NodeDocument | undefined): Partial<NodeDocument> => {
      const problem = parts.addressProblem(address);
      if (problem !== undefined) throw malformed({ field: "payout_address", description: problem });
      const fingerprint = vault.fingerprint(address);
      const waits = former?.payout_address !== undefined && former.payout_address_fingerprint !== fingerprint;
      return {
        payout_address: vault.seal(address),
        payout_address_fingerprint: fingerprint,
        payout_address_masked: parts.maskAddress(address),
        ...(waits ? { payout_address_usable_at: usableAt() } : {}),
      };
    },
    /**
     * Takes the address away. The wait stays: taking the address away first must not shorten the wait for another one.
     */
    cleared: (): Pick<Patch, "set" | "unset"> => ({
      unset: ["payout_address", "payout_address_fingerprint", "payout_address_masked"],
      set: { payout_address_usable_at: usableAt() },
    }),
  };
}
