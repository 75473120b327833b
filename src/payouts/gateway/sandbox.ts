// The sandbox: a gateway that pays on a chain inside the store. It moves no money, and says so in each txid. It behaves
// like TRON, with faults on demand, so that all of the payout machine can be seen at work on a fresh machine.
import { hash } from "node:crypto";
import { type Store, StoreUnavailableError } from "../../storage/collection.js";
import type { Log } from "../../telemetry/log.js";
import { type Currency, decimalsOf } from "../money.js";
import { answerOf, lastBlockFor, solidAfter } from "./chain.js";
import type { FaultName, Faults } from "./faults.js";
import {
  type BlockRef,
  type Draft,
  type Gateway,
  GatewayAwayError,
  type SeenTransfer,
  type Signed,
  type Transfer,
} from "./gateway.js";
import { blockRefOf } from "./sandbox-blocks.js";
import { openSandboxChain, type SandboxChain } from "./sandbox-chain.js";
import type { SandboxTransaction, View } from "./sandbox-head.js";
import { judge, type Receipt } from "./settlement.js";

/** Hashes of a phrase: nobody has a key to them. */
const wallets: Readonly<Record<Currency, string>> = {
  USDT: "TUkqZTRc4YFKCqvRhnfWGssG5WzqfFyhHM",
  LUCID: "0xee824c0760ee7729b933a68a67e49f68333a62e7",
};
/** USDT's contract on TRON. LUCID has none yet. */
const contracts: Readonly<Record<Currency, string | undefined>> = {
  USDT: "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t",
  LUCID: undefined,
};
const zeroAddresses: Readonly<Record<Currency, string>> = {
  USDT: "T9yD14Nj9j7xAB4dbGeiX9h8unkKHxuWwb",
  LUCID: `0x${"0".repeat(40)}`,
};

/** Enough for a transfer at the sandbox's price of energy: 100 TRX. */
const feeLimitSun = 100_000_000n;
/** An unsent transaction expires this long after the newest block, whichever is later. */
const expiresAfterBlocks = 20;
const expiresAfterMs = 10_000;
/** How far a node may lag behind when that fault comes up. */
const lagMax = 40;

/** The bytes of a transaction are this as JSON. */
interface Raw {
  readonly chain: string;
  readonly wallet: string;
  readonly recipient: string;
  readonly amount_minor: string;
  readonly stamp: number;
  readonly ref_block: BlockRef;
  readonly expires_at_ms: number;
  readonly fee_limit: string;
}

const txidOf = (raw: string): string => `sandbox:${hash("sha256", raw)}`;
const signatureOf = (txid: string): string => hash("sha256", `sandbox signature of ${txid}`);

/** What a node makes of bytes that are signed; undefined when the signature or the txid is not theirs. */
const read = ({ txid, raw, signature }: Signed): Raw | undefined =>
  txidOf(raw) === txid && signatureOf(txid) === signature ? JSON.parse(raw) : undefined;

const receiptOf = (view: View, included: SandboxTransaction): Receipt => {
  const { recipient, amount_minor: minor, result = "", fee = "", retryable = false } = included;
  const transfers = result === "SUCCESS" ? [{ recipient, amountMinor: BigInt(minor) }] : [];
  return { block: blockRefOf(view, included), result, fee, isRetryable: retryable, transfers };
};

const seenOf = (view: View, included: SandboxTransaction): SeenTransfer => ({
  ...{ txid: included._id, recipient: included.recipient, amountMinor: BigInt(included.amount_minor) },
  block: blockRefOf(view, included),
});

function draftOf(
  currency: Currency,
  { recipient, amountMinor }: Transfer,
  stamp: number,
  { refBlock, expiresAtMs }: Pick<Draft, "refBlock" | "expiresAtMs">,
): Draft {
  const content: Raw = {
    ...{ chain: `sandbox ${currency}`, wallet: wallets[currency], recipient, stamp, ref_block: refBlock },
    ...{ amount_minor: `${amountMinor}`, expires_at_ms: expiresAtMs, fee_limit: `${feeLimitSun}` },
  };
  const raw = JSON.stringify(content);
  return { txid: txidOf(raw), raw, refBlock, expiresAtMs };
}

function recipientProblem(currency: Currency, recipient: string): string | undefined {
  const is = (address: string | undefined) => address?.toLowerCase() === recipient.toLowerCase();
  if (is(wallets[currency])) return "it is the wallet that pays";
  if (is(contracts[currency])) return "it is the contract of the token";
  return is(zeroAddresses[currency]) ? "it is the zero address" : undefined;
}

type Dice = ReturnType<typeof createDice>;

function createDice(faults: Faults, random: () => number, onFault: (fault: FaultName) => void) {
  const strikes = (name: FaultName): boolean => {
    const struck = random() < faults[name];
    if (struck) onFault(name);
    return struck;
  };
  return {
    strikes,
    firstOf: <Name extends FaultName>(names: readonly Name[]): Name | undefined => names.find(strikes),
    upTo: (most: number): number => Math.ceil(random() * most),
  };
}

/** The store is all there is of this chain: when it does not answer, the chain is away. @throws GatewayAwayError */
async function answered<Answer>(dice: Dice, ask: () => Promise<Answer>): Promise<Answer> {
  if (dice.strikes("away")) throw new GatewayAwayError("The sandbox chain is away, as was asked for");
  try {
    return await ask();
  } catch (error) {
    if (!(error instanceof StoreUnavailableError)) throw error;
    throw new GatewayAwayError("The store does not answer, and the sandbox chain is kept there", { cause: error });
  }
}

/** What a node answers to a broadcast. @throws StoreUnavailableError, GatewayAwayError */
async function broadcast(chain: SandboxChain, wallet: string, dice: Dice, signed: Signed): Promise<string> {
  const fault = dice.firstOf(["busy", "unsent", "lying"]);
  if (fault === "busy") return "SERVER_BUSY";
  if (fault === "unsent") return "TIMEOUT";
  if (fault === "lying" && dice.upTo(2) === 1) return "DUP_TRANSACTION_ERROR";
  const raw = read(signed);
  if (raw === undefined) return "SIGERROR";
  const code = await chain.accept({
    ...{ txid: signed.txid, isSigned: raw.wallet === wallet, refBlock: raw.ref_block, recipient: raw.recipient },
    ...{ expiresAtMs: raw.expires_at_ms, amountMinor: BigInt(raw.amount_minor), feeLimitSun: BigInt(raw.fee_limit) },
    fate: dice.firstOf(["lost", "late", "revert", "reject"]),
  });
  if (dice.strikes("unanswered")) return "TIMEOUT";
  return fault === "lying" ? "TRANSACTION_EXPIRATION_ERROR" : code;
}

/** @throws StoreUnavailableError */
export async function createSandboxGateway(parts: {
  readonly store: Store;
  readonly currency: Currency;
  /** Milliseconds between blocks, at least 10. */
  readonly blockMs: number;
  readonly faults: Faults;
  /** In [0, 1), for faults. */
  readonly random: () => number;
  readonly log: Pick<Log, "debug">;
  /** What the wallet holds at first, in minor units. Absent: 1,000,000,000 tokens. */
  readonly startMinor?: bigint;
}): Promise<Gateway> {
  const { store, currency, blockMs, log } = parts;
  const wallet = wallets[currency];
  const startMinor = parts.startMinor ?? 10n ** (9n + decimalsOf[currency]);
  const dice = createDice(parts.faults, parts.random, (fault) =>
    log.debug("SANDBOX: a fault that was asked for", { currency, fault }),
  );
  const chain = await openSandboxChain({ store, chain: currency, blockMs, startMinor });

  const reading = <Answer>(ask: () => Promise<Answer>): Promise<Answer> => answered(dice, ask);
  /** The last solid block by a node that may lag behind. */
  const solidBy = (view: View): number =>
    dice.strikes("lagging") ? Math.max(0, view.solidNumber - dice.upTo(lagMax)) : view.solidNumber;

  return {
    ...{ name: "sandbox", currency, wallet },
    unknownForMs: 0,
    solidAfterMs: (solidAfter + 2) * blockMs,

    recipientProblem: (recipient) => recipientProblem(currency, recipient),

    preflight: (transfer: Transfer) =>
      reading(async () => {
        const problem = recipientProblem(currency, transfer.recipient);
        if (problem !== undefined) return { kind: "refused", code: "RECIPIENT", message: `Not paid: ${problem}` };
        const { spentMinor } = await chain.look(false);
        if (startMinor - spentMinor >= transfer.amountMinor) return { kind: "ready" };
        return { kind: "waits", code: "WALLET_DRY", message: "The sandbox wallet holds less than the amount" };
      }),

    draft: (transfer: Transfer, stamp: number) =>
      reading(async () => {
        const view = await chain.look(true);
        const refBlock = await chain.blocks.ref(view, view.solidNumber);
        const expiresAtMs = view.headTimeMs + Math.max(expiresAfterBlocks * blockMs, expiresAfterMs);
        return draftOf(currency, transfer, stamp, { refBlock, expiresAtMs });
      }),

    sign: async ({ txid }) => signatureOf(txid),

    send: async (signed) => {
      try {
        return answerOf(await broadcast(chain, wallet, dice, signed));
      } catch (error) {
        if (!(error instanceof StoreUnavailableError || error instanceof GatewayAwayError)) throw error;
        return answerOf("TIMEOUT");
      }
    },

    judge: (attempt) =>
      reading(async () => {
        const view = await chain.look(true);
        const solidNumber = solidBy(view);
        // Read after the look: a transaction in a block up to the head is marked with it.
        const found = await chain.find(attempt.txid);
        const upTo = Math.max(lastBlockFor(view.eras, attempt.expiresAtMs), attempt.refBlock.number + 1);
        return judge(attempt, {
          solid: await chain.blocks.ref(view, solidNumber),
          receipt: found?.state === "included" ? receiptOf(view, found) : undefined,
          isSeen: found?.state === "pending",
          blocks: upTo <= solidNumber ? await chain.blocks.after(view, attempt.refBlock.number, upTo) : [],
          nodes: 1,
        });
      }),

    solid: () =>
      reading(async () => {
        const view = await chain.look(false);
        return chain.blocks.ref(view, solidBy(view));
      }),

    balance: () => reading(async () => startMinor - (await chain.look(false)).spentMinor),

    transfersAfter: (block) =>
      reading(async () => {
        const view = await chain.look(false);
        const solidNumber = solidBy(view);
        const found = await chain.blocks.transactionsAfter(block, solidNumber);
        const transfers = found.items.filter(({ result }) => result === "SUCCESS").map((one) => seenOf(view, one));
        return { transfers, to: await chain.blocks.ref(view, found.upTo) };
      }),
  };
}
