// Compares the wallets' transfers with the recorded attempts: a transfer that no attempt explains stops sending until a
// person accepts it. So a store that was restored from an old copy cannot pay what was paid before.

import type { Clock } from "../clock.js";
import type { Vault } from "../crypto.js";
import { type Outage, turns } from "../task.js";
import type { Log } from "../telemetry/log.js";
import { maskAddress } from "./address.js";
import type { PayoutDocument, SendingDocument, UnknownTransfer } from "./document.js";
import { type BlockRef, type Gateway, GatewayAwayError, type SeenTransfer } from "./gateway/gateway.js";
import { type Currency, formatAmount } from "./money.js";
import type { PayoutRepository } from "./repository.js";
import { type Sending, unknownMax, untold } from "./sending.js";

export type Matching = ReturnType<typeof createMatching>;

/** How often the transfers of the latest blocks are compared. */
const everyMs = 5_000;
/** Blocks without a transfer that are compared again after a start: an idle chain is no reason to write. */
const blocksUnwrittenMax = 200;

/** What a transfer is to the records: explained, or a reason to stop. */
export function kindOf(
  transfer: SeenTransfer,
  recipientFingerprint: string,
  payout: PayoutDocument | null,
): "matched" | UnknownTransfer["kind"] {
  if (payout === null) return "orphan";
  const attempt = payout.attempts.find(({ txid }) => txid === transfer.txid);
  const isOurs =
    payout.recipient_fingerprint === recipientFingerprint && payout.amount_minor === `${transfer.amountMinor}`;
  const mayLand = attempt !== undefined && attempt.sends > 0 && ["live", "landed"].includes(attempt.outcome);
  const isPaid = payout.status === "completed" || payout.status === "processing";
  return isOurs && mayLand && isPaid ? "matched" : "wrong";
}

/**
 * Solid blocks from that chain time on show all that may have been sent before now. The block of a node that lags behind
 * would tell too early a time, so the store's clock counts as well.
 */
function quietFrom({ unknownForMs, solidAfterMs }: Gateway, solid: BlockRef, now: Date): number {
  if (unknownForMs === 0) return solid.timeMs;
  return Math.max(solid.timeMs + solidAfterMs, now.getTime()) + unknownForMs;
}

export function createMatching(parts: {
  readonly repository: PayoutRepository;
  readonly gateways: ReadonlyMap<Currency, Gateway>;
  readonly sending: Sending;
  readonly vault: Pick<Vault, "fingerprint">;
  readonly clock: Clock;
  readonly log: Log;
  readonly away: Outage;
}) {
  const { repository, gateways, sending, vault, clock, log } = parts;
  /** By currency: solid blocks from this time on show all that may have been sent before this process started. */
  const quietFromMs = new Map<Currency, number>();

  const judge = async (currency: Currency, transfer: SeenTransfer, known: SendingDocument) => {
    if (known.accepted.some(({ txid }) => txid === transfer.txid)) return undefined;
    const fingerprint = vault.fingerprint(transfer.recipient);
    const kind = kindOf(transfer, fingerprint, await repository.findByTxid(transfer.txid, fingerprint));
    if (kind === "matched") return undefined;
    const unknown: UnknownTransfer = {
      ...{ txid: transfer.txid, currency, amount_minor: `${transfer.amountMinor}`, block: transfer.block, kind },
      ...{ recipient_masked: maskAddress(transfer.recipient), recipient_fingerprint: fingerprint },
    };
    return unknown;
  };

  /**
   * Records what was compared. Another replica may have compared further or told of the same transfers. Answers whether
   * all unknown transfers have room.
   */
  const record = async (currency: Currency, to: BlockRef, found: readonly UnknownTransfer[]): Promise<boolean> => {
    let fits = true;
    await sending.change(({ matched, unknown, accepted }) => {
      const fresh = untold(found, unknown, accepted);
      const all = [...unknown, ...fresh];
      // What does not fit is compared again later, when a person has accepted some.
      fits = all.length <= unknownMax;
      const isFurther = fits && (matched[currency]?.number ?? -1) < to.number;
      if (fresh.length === 0 && !isFurther) return undefined;
      return { matched: isFurther ? { ...matched, [currency]: to } : matched, unknown: all.slice(0, unknownMax) };
    });
    for (const { txid, amount_minor: minor, recipient_masked: recipient, kind } of found) {
      const amount = formatAmount({ currency, minor: BigInt(minor) });
      log.error("A transfer out of the wallet belongs to no recorded attempt; sending has stopped", {
        ...{ transaction_hash: txid, currency, amount, recipient, kind },
      });
    }
    return fits;
  };

  /** Compares all blocks that have become solid since the last look. */
  const compare = async (currency: Currency, gateway: Gateway): Promise<void> => {
    const solid = await gateway.solid();
    const quietMs = quietFromMs.get(currency) ?? quietFrom(gateway, solid, await repository.now());
    quietFromMs.set(currency, quietMs);
    const known = await sending.change(({ matched }) =>
      // A store that has never paid has nothing to compare with: it begins here.
      matched[currency] === undefined ? { matched: { ...matched, [currency]: solid } } : undefined,
    );
    let from = known.matched[currency] ?? solid;
    while (from.number < solid.number) {
      const { transfers, to } = await gateway.transfersAfter(from.number);
      // Another node answers, which is behind. The rest is compared at the next look.
      if (to.number <= from.number) break;
      const found: UnknownTransfer[] = [];
      for (const transfer of transfers) {
        const unknown = await judge(currency, transfer, known);
        if (unknown !== undefined) found.push(unknown);
      }
      const isFar = to.number - (known.matched[currency]?.number ?? 0) >= blocksUnwrittenMax;
      if ((transfers.length > 0 || isFar) && !(await record(currency, to, found))) return;
      from = to;
    }
    if (from.timeMs >= quietMs) sending.markCompared(currency);
  };

  /** Currencies whose chain could not be read in the last turn. */
  const unread = new Set<Currency>();

  const turn = async (): Promise<void> => {
    // A gateway may keep its chain in the store. The store's outage is told as that, and not as a chain's.
    await repository.now();
    for (const [currency, gateway] of gateways) {
      try {
        await compare(currency, gateway);
        if (unread.delete(currency)) log.info("The chain can be read again", { currency });
      } catch (error) {
        if (!(error instanceof GatewayAwayError)) throw error;
        if (!unread.has(currency))
          log.warn("The chain cannot be read; its transfers are not compared", { currency, error });
        unread.add(currency);
      }
    }
  };

  return {
    task: turns({ clock, everyMs, turn, away: parts.away }).task,
    /** Compares now. A chain that is away is logged. @throws StoreUnavailableError */
    now: turn,
  };
}
