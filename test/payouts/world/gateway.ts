// The gateway of the simulated world: what a node tells of the chain. It may lag behind, and be away. Its answers to a
// send may be lies; what it tells of solid blocks is true, as the port demands of every gateway.

import { answerOf, solidAfter } from "../../../src/payouts/gateway/chain.js";
import {
  type Answer,
  type BlockRef,
  type Gateway,
  GatewayAwayError,
  type Preflight,
  type Signed,
} from "../../../src/payouts/gateway/gateway.js";
import { judge, type Receipt } from "../../../src/payouts/gateway/settlement.js";
import type { Currency } from "../../../src/payouts/money.js";
import { type Block, blockMs, type Chain, type Included, rawOf, txidOf } from "./chain.js";

/** A transaction of this chain lives for a minute of its time. */
export const lifeMs = 60_000;

export interface Node {
  /** Blocks by which it is behind. */
  readonly lag: number;
}

const signatureOf = (txid: string): string => `signed:${txid}`;
const refOf = ({ number, id, timeMs }: Block): BlockRef => ({ number, id, timeMs });

export function createWorldGateway(parts: {
  readonly currency: Currency;
  readonly chain: Chain;
  /** Makes the call in the world; a read that is not answered means that the gateway is away. */
  readonly read: <T>(name: string, apply: () => Promise<T>) => Promise<T>;
  readonly sign: (txid: string, apply: () => Promise<string>) => Promise<string>;
  readonly send: (signed: Signed, apply: () => Promise<Answer>) => Promise<Answer>;
  /** The node that answers this call. */
  readonly node: () => Node;
  readonly preflight: (recipient: string) => Preflight;
  readonly unknownForMs: number;
}): Gateway {
  const { currency, chain, read } = parts;
  const solidOf = ({ lag }: Node): Block => chain.block(Math.max(0, chain.solid().number - lag)) as Block;
  const headOf = ({ lag }: Node): Block => chain.block(Math.max(0, chain.head().number - lag)) as Block;

  const receiptOf = ({ wanted, revert, block }: Included): Receipt => ({
    block: refOf(chain.block(block) as Block),
    result: revert?.code ?? "SUCCESS",
    isRetryable: revert?.retryable ?? false,
    fee: "1",
    transfers: revert === undefined ? [{ recipient: wanted.recipient, amountMinor: BigInt(wanted.amountMinor) }] : [],
  });

  return {
    name: "tron",
    currency,
    wallet: "the wallet",
    unknownForMs: parts.unknownForMs,
    solidAfterMs: (solidAfter + 1) * blockMs,
    recipientProblem: () => undefined,
    preflight: ({ recipient }) => read("preflight", async () => parts.preflight(recipient)),
    draft: ({ recipient, amountMinor }, stamp) =>
      read("draft", async () => {
        const node = parts.node();
        const refBlock = solidOf(node);
        const expiresAtMs = headOf(node).timeMs + lifeMs;
        const wanted = { currency, recipient, amountMinor: `${amountMinor}`, refBlock: refBlock.number, expiresAtMs };
        const raw = rawOf({ ...wanted, stamp });
        return { txid: txidOf(raw), raw, refBlock: refOf(refBlock), expiresAtMs };
      }),
    sign: ({ txid }) => parts.sign(txid, async () => signatureOf(txid)),
    send: (signed) =>
      parts.send(signed, async () => {
        const { txid, raw, signature } = signed;
        return answerOf(chain.accept(raw, txidOf(raw) === txid && signature === signatureOf(txid)));
      }),
    judge: (attempt) =>
      read("judge", async () => {
        const view = solidOf(parts.node());
        const place = chain.find(attempt.txid);
        const blocks: Block[] = [];
        for (let number = attempt.refBlock.number + 1; number <= view.number; number++) {
          const block = chain.block(number) as Block;
          blocks.push(block);
          if (block.timeMs >= attempt.expiresAtMs) break;
        }
        // A node tells of a transaction in any block that it knows; one that lags does not know the newest.
        const receipt = place !== undefined && place.block <= view.number ? receiptOf(place) : undefined;
        return judge(attempt, { solid: view, receipt, isSeen: place !== undefined, blocks, nodes: 1 });
      }),
    solid: () => read("solid", async () => refOf(solidOf(parts.node()))),
    balance: () => read("balance", async () => chain.balance(currency)),
    transfersAfter: (after) =>
      read("transfers", async () => {
        const view = solidOf(parts.node());
        const transfers = [];
        for (let number = after + 1; number <= view.number; number++) {
          const block = chain.block(number) as Block;
          for (const { txid, wanted, revert } of block.included) {
            if (revert !== undefined || wanted.currency !== currency) continue;
            const amountMinor = BigInt(wanted.amountMinor);
            transfers.push({ txid, recipient: wanted.recipient, amountMinor, block: refOf(block) });
          }
        }
        return { transfers, to: refOf(view) };
      }),
  };
}

export const unanswered: Answer = { class: "unanswered", code: "TIMEOUT" };
export const away = (): Error => new GatewayAwayError("The node does not answer");
