// Compares everything that a wallet has ever paid with everything that is recorded as paid, when a person asks for it.
import type { Vault } from "../crypto.js";
import { gatewayAway } from "../failure.js";
import { maskAddress } from "./address.js";
import type { SendingDocument, UnknownTransfer } from "./document.js";
import { type BlockRef, type Gateway, GatewayAwayError } from "./gateway/gateway.js";
import { kindOf } from "./matching.js";
import type { Currency } from "./money.js";
import type { PayoutRepository } from "./repository.js";

/** How a wallet and the records compare, by solid blocks. All are counted; of unknown transfers the first 100 are told. */
export interface Report {
  readonly currency: Currency;
  /** Transfers that belong to a recorded attempt. */
  readonly matched: number;
  /** Completed payouts without a transfer. */
  readonly missing: number;
  /** Transfers that nobody has accepted, of either kind. */
  readonly orphan: number;
  readonly wrong: number;
  /** Transfers that no attempt explains, and that a person has accepted. */
  readonly accepted: number;
  readonly unknown: readonly UnknownTransfer[];
  readonly upTo: BlockRef;
}

/** The chain of a currency could not be read. */
export interface Unread {
  readonly currency: Currency;
  readonly problem: string;
}

const listedMax = 100;

export function createReconciliation(parts: {
  readonly repository: PayoutRepository;
  readonly gateways: ReadonlyMap<Currency, Gateway>;
  readonly vault: Pick<Vault, "fingerprint">;
  readonly look: () => Promise<SendingDocument>;
}) {
  const { repository, vault } = parts;

  /** How one currency's transfers compare. `paid` collects the transactions that are explained. */
  const compare = async (currency: Currency, gateway: Gateway, upTo: BlockRef, paid: Set<string>) => {
    const accepted = new Set((await parts.look()).accepted.map(({ txid }) => txid));
    const counts = { orphan: 0, wrong: 0, accepted: 0 };
    const unknown: UnknownTransfer[] = [];
    for (let from = 0; from < upTo.number; ) {
      const { transfers, to } = await gateway.transfersAfter(from);
      for (const transfer of transfers) {
        const { txid, recipient, amountMinor, block } = transfer;
        const fingerprint = vault.fingerprint(recipient);
        const kind = kindOf(transfer, fingerprint, await repository.findByTxid(txid, fingerprint));
        if (kind === "matched") paid.add(txid);
        else if (accepted.has(txid)) counts.accepted++;
        else {
          counts[kind]++;
          if (unknown.length >= listedMax) continue;
          unknown.push({
            ...{ txid, currency, kind, block, amount_minor: `${amountMinor}`, recipient_fingerprint: fingerprint },
            recipient_masked: maskAddress(recipient),
          });
        }
      }
      if (to.number <= from) break;
      from = to.number;
    }
    return { ...counts, unknown };
  };

  const reportOn = async (currency: Currency, gateway: Gateway): Promise<Report> => {
    const upTo = await gateway.solid();
    const paid = new Set<string>();
    const found = await compare(currency, gateway, upTo, paid);
    let missing = 0;
    for await (const page of repository.all({ status: "completed", currency })) {
      for (const { txid, attempts } of page) {
        const block = attempts.find((attempt) => attempt.txid === txid)?.block;
        // A payout that was completed while this went on is in a later block.
        const isTold = txid !== undefined && (paid.has(txid) || (block !== undefined && block.number > upTo.number));
        if (!isTold) missing++;
      }
    }
    return { currency, matched: paid.size, missing, ...found, upTo };
  };

  /** @throws Failure 5006 (UNAVAILABLE) when no chain can be read */
  return async (): Promise<(Report | Unread)[]> => {
    const reports: (Report | Unread)[] = [];
    let away: GatewayAwayError | undefined;
    for (const [currency, gateway] of parts.gateways) {
      try {
        reports.push(await reportOn(currency, gateway));
      } catch (error) {
        if (!(error instanceof GatewayAwayError)) throw error;
        away = error;
        reports.push({ currency, problem: "The chain cannot be read now" });
      }
    }
    if (away !== undefined && reports.every(isUnread)) {
      throw gatewayAway("No chain can be read now", 5_000, away);
    }
    return reports;
  };
}

export const isUnread = (report: Report | Unread): report is Unread => "problem" in report;
