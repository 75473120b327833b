// Which address is paid, from when, and how it is stored.
import type { Vault } from "../crypto.js";
import { malformed, payoutRefused } from "../failure.js";
import type { NodeDocument } from "../nodes/node.js";
import { maskAddress } from "./address.js";
import type { Gateway } from "./gateway/gateway.js";
import type { Currency } from "./money.js";
import { canonicalAddress, recipientProblem } from "./recipient.js";
import type { Item } from "./requests.js";

export type Payees = ReturnType<typeof createPayees>;

export function createPayees({
  gateways,
  vault,
}: {
  readonly gateways: ReadonlyMap<Currency, Gateway>;
  readonly vault: Vault;
}) {
  const gatewayOf = (currency: Currency): Gateway => {
    const gateway = gateways.get(currency);
    if (gateway !== undefined) return gateway;
    throw payoutRefused(`No gateway pays ${currency}; set PAYOUT_GATEWAY_${currency}`);
  };

  const ownAddress = ({ payout_address: sealed }: NodeDocument): string | undefined =>
    sealed === undefined ? undefined : canonicalAddress(vault.open(sealed));

  /** The address that is paid, and from when. @throws Failure 5006, 4001 */
  const addressOf = (wanted: Item, node: NodeDocument, field: string, ownOf = ownAddress) => {
    if (node.banned) throw payoutRefused(`Node ${node._id} is banned`);
    const own = ownOf(node);
    const address = wanted.recipient ?? own;
    if (address === undefined)
      throw payoutRefused(`Node ${node._id} has no payout address; set one, or name the wallet`);
    const gateway = gatewayOf(wanted.currency);
    const problem = recipientProblem(wanted.currency, address) ?? gateway.recipientProblem(address);
    if (problem !== undefined) {
      if (wanted.recipient !== undefined) throw malformed({ field, description: problem });
      throw payoutRefused(`The payout address of node ${node._id} cannot take ${wanted.currency}: ${problem}`);
    }
    // Naming the node's own address does not shorten its wait.
    const usableAt = address === own ? node.payout_address_usable_at : undefined;
    return { address, usableAt };
  };

  /** The fields of a recipient as they are stored. */
  const recipientOf = (address: string) => ({
    recipient: vault.seal(address),
    recipient_fingerprint: vault.fingerprint(address),
    recipient_masked: maskAddress(address),
  });

  return { ownAddress, addressOf, recipientOf };
}
