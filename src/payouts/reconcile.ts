// Compares everything that a wallet has ever paid with everything that is recorded as paid, when a person asks for it.
import type { Vault } from "../crypto.js";
import { gatewayAway } from "../failure.js";
import { maskAddress } from "./address.js";
import type { SendingDocument, UnknownTransfer } from "./document.js";
import { type BlockRef, type Gateway, GatewayAwayError } from "./gateway/gateway.js";
import { kindOf } from "./matching.js";
import type { Currency } from "./money.js";
import type { PayoutRepository } from "./repository.js";

/** Of one currency, by solid blocks. */
export interface Report {
  readonly currency: Currency;
  /** Transfers that belong to a recorded attempt. */
  readonly matched: number;
  /** Completed payouts without a transfer, at most 100. */
  readonly missing: readonly string[];
  /** Transfers that no attempt explains, accepted ones included. */
  readonly unexplained: readonly (UnknownTransfer & { readonly accepted: boolean })[];
  readonly upTo: BlockRef;
}

const listedMax = 100;

export function createReconciliation(parts: {
  readonly repository: PayoutRepository;
  readonly gateways: ReadonlyMap<Currency, Gateway>;
  readonly vault: Pick<Vault, "fingerprint">;
  readonly look: () => Promise<SendingDocument>;
}) {
  const { repository, vault } = parts;

  const reportOn = async (currency: Currency, gateway: Gateway): Promise<Report> => {
    const { accepted } = await parts.look();
    const upTo = await gateway.solid();
    const paid = new Set<string>();
    const unexplained: (UnknownTransfer & { accepted: boolean })[] = [];
    for (let from = 0; from < upTo.number; ) {
      const { transfers, to } = await gateway.transfersAfter(from);
      for (const transfer of transfers) {
        const { txid, recipient, amountMinor, block } = transfer;
        const fingerprint = vault.fingerprint(recipient);
        const kind = kindOf(transfer, fingerprint, await repository.findByTxid(txid));
        if (kind === "matched") paid.add(txid);
        else if (unexplained.length < listedMax) {
          unexplained.push({
            ...{ txid, currency, kind, block, amount_minor: `${amountMinor}`, recipient_fingerprint: fingerprint },
            ...{ recipient_masked: maskAddress(recipient), accepted: accepted.some((one) => one.txid === txid) },
          });
        }
      }
      if (to.number <= from) break;
      from = to.number;
    }
    const missing: string[] = [];
    for await (const page of repository.all({ status: "completed", currency })) {
      for (const { _id, txid, attempts } of page) {
        const block = attempts.find((attempt) => attempt.txid === txid)?.block;
        // A payout that was completed while this went on is in a later block.
        const isTold = txid !== undefined && (paid.has(txid) || (block !== undefined && block.number > upTo.number));
        if (!isTold && missing.length < listedMax) missing.push(_id);
      }
    }
    return { currency, matched: paid.size, missing, unexplained, upTo };
  };

  /** @throws Failure 5006 (UNAVAILABLE) when a chain cannot be read */
  return async (): Promise<Report[]> => {
    const reports: Report[] = [];
    for (const [currency, gateway] of parts.gateways) {
      try {
        reports.push(await reportOn(currency, gateway));
      } catch (error) {
        if (!(error instanceof GatewayAwayError)) throw error;
        throw gatewayAway(`The chain of ${currency} cannot be read now`, 5_000, error);
      }
    }
    return reports;
  };
}
