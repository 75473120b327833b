// lucid-node payouts create, batch and retry: what moves money. Each has a key, so that a run that is repeated pays once.
import { closeSync, openSync, readSync } from "node:fs";
import type { JsonValue } from "@bufbuild/protobuf";
import { Currency } from "../../../gen/lucid/node/v1/common_pb.js";
import {
  BatchStatus,
  type Payout,
  type PayoutBatch,
  PayoutBatchSchema,
  type PayoutPriority,
  PayoutSchema,
  PayoutStatus,
} from "../../../gen/lucid/node/v1/payout_service_pb.js";
import type { LucidClient } from "../../client/client.js";
import { present } from "../../present.js";
import { refusalOf } from "../connection.js";
import { needed, UsageError } from "../usage.js";
import {
  type AskingOptions,
  asking,
  currencyNamed,
  jsonOf,
  type Means,
  priorityNamed,
  shown,
  systemMeans,
  timeNamed,
} from "./asking.js";
import { batchIdOf, type Fault, inOrder, type OrderFile, type OrderItem, readOrders, totalsOf } from "./order-file.js";
import { batchText, payoutLine, timeOf } from "./text.js";
import { untilBatchDone, untilPayoutDone } from "./waiting.js";

type Payouts = LucidClient["payouts"];
type PriorityName = Exclude<keyof typeof PayoutPriority, "UNSPECIFIED">;

interface KeyedOptions extends AskingOptions {
  /** A new one when absent. */
  readonly key?: string | undefined;
  readonly wait: boolean;
}

export interface CreateOptions extends KeyedOptions {
  readonly nodeId?: string | undefined;
  readonly currency?: Exclude<keyof typeof Currency, "UNSPECIFIED"> | undefined;
  readonly amount?: string | undefined;
  readonly wallet?: string | undefined;
  readonly priority?: PriorityName | undefined;
  readonly scheduledAt?: string | undefined;
}

/** Returns the exit code. @throws UsageError */
export async function create(options: CreateOptions, means: Means = systemMeans()): Promise<number> {
  const order = present({
    nodeId: needed("--node-id", options.nodeId),
    money: {
      currency: currencyNamed(needed("--currency", options.currency)),
      amount: needed("--amount", options.amount),
    },
    walletAddress: options.wallet ?? "",
    priority: priorityNamed(options.priority),
    scheduledAt: timeNamed("--scheduled-at", options.scheduledAt),
  });
  return keyed(options, means, async (payouts, idempotencyKey) => {
    const { payout } = await payouts.createPayout({ ...order, idempotencyKey });
    return payout as Payout;
  });
}

/** Makes a new payout in place of a failed one. Returns the exit code. @throws UsageError */
export async function retry(payoutId: string, options: KeyedOptions, means: Means = systemMeans()): Promise<number> {
  return keyed(options, means, async (payouts, idempotencyKey) => {
    const { payout } = await payouts.retryPayout({ payoutId, idempotencyKey });
    return payout as Payout;
  });
}

/** Orders one payout under a key that is told before, so that a run whose answer is lost can be repeated. */
function keyed(
  options: KeyedOptions,
  means: Means,
  order: (payouts: Payouts, key: string) => Promise<Payout>,
): Promise<number> {
  const { terminal } = means;
  return asking(options, means, async (payouts) => {
    const key = options.key ?? means.newKey();
    terminal.tell(`key ${key}`);
    let payout: Payout;
    try {
      payout = await order(payouts, key);
    } catch (error) {
      if (refusalOf(error).isPassing) {
        terminal.tell(`Whether the payout was ordered is not known. --key ${key} repeats the order and pays it once.`);
      }
      throw error;
    }
    if (payout.replayed) terminal.tell("This key was used before; this is the payout that it made.");
    const last = options.wait ? await untilPayoutDone(payouts, payout, means) : payout;
    const document = () => ({ idempotency_key: key, payout: jsonOf(PayoutSchema, last) });
    const code = shown(means, options.json, document, () => payoutLine(last));
    return options.wait && last.status !== PayoutStatus.COMPLETED ? 1 : code;
  });
}

export interface BatchOptions extends AskingOptions {
  /** The one that follows from the payouts in the file when absent. */
  readonly batchId?: string | undefined;
  readonly priority?: PriorityName | undefined;
  readonly scheduledAt?: string | undefined;
  /** Send without asking. */
  readonly yes: boolean;
  readonly wait: boolean;
}

/** Far more than 1000 payouts need. */
const fileBytesMax = 1024 * 1024;

/**
 * Shows what the file would pay and every fault in it, and sends it when that is wanted: by --yes, or by a person at
 * the terminal. Returns the exit code: 1 as well for a file with a fault. @throws UsageError
 */
export async function batch(file: string, options: BatchOptions, means: Means = systemMeans()): Promise<number> {
  const { terminal } = means;
  const scheduledAt = timeNamed("--scheduled-at", options.scheduledAt);
  const orders = readOrders(contentOf(file));
  const batchId = options.batchId ?? batchIdOf(orders.items);
  const plan = { file, batchId, orders };
  for (const { place, message } of orders.notices) terminal.tell(`${place}: ${message}`);
  if (orders.faults.length > 0) return refuse(plan, orders.faults, options.json, means);
  for (const line of planLines(plan)) terminal.tell(line);
  const isWanted = options.yes || ((await terminal.confirm("Send it?")) ?? false);
  if (!isWanted) {
    terminal.tell("Nothing was sent. --yes sends it.");
    return shown(
      means,
      options.json,
      () => documentOf(plan, [], undefined),
      () => `${batchId}  not sent`,
    );
  }
  return asking(options, means, async (payouts) => {
    const items = inOrder(orders.items);
    const request = present({ batchId, priority: priorityNamed(options.priority), scheduledAt });
    let taken: PayoutBatch;
    try {
      const answer = await payouts.createBatchPayout({ ...request, payoutRequests: items.map(requestOf) });
      taken = answer.batch as PayoutBatch;
    } catch (error) {
      const { violations, isPassing } = refusalOf(error);
      if (isPassing) terminal.tell("Whether the batch was taken is not known. The same command again sends it once.");
      for (const { field, description } of violations) terminal.tell(placed(field, description, items));
      throw error;
    }
    if (taken.replayed) {
      const when = timeOf(taken.createdAt);
      terminal.tell(`This batch was sent before, at ${when}; nothing new is paid. --batch-id makes it another batch.`);
    }
    const last = options.wait ? await untilBatchDone(payouts, taken, means) : taken;
    const code = shown(
      means,
      options.json,
      () => documentOf(plan, [], last),
      () => batchText(last),
    );
    return options.wait && last.status !== BatchStatus.COMPLETED ? 1 : code;
  });
}

interface Plan {
  readonly file: string;
  readonly batchId: string;
  readonly orders: OrderFile;
}

function refuse(plan: Plan, faults: readonly Fault[], json: boolean, { terminal }: Means): number {
  for (const { place, message } of faults) terminal.tell(`${plan.file}, ${place}: ${message}`);
  terminal.tell(`Nothing was sent: ${faults.length === 1 ? "a fault" : `${faults.length} faults`} in ${plan.file}`);
  if (json) terminal.answer(JSON.stringify(documentOf(plan, faults, undefined), undefined, 2));
  return 1;
}

function planLines({ batchId, orders: { items } }: Plan): string[] {
  const totals = totalsOf(items).map(({ currency, count, amount }) => `${counted(count)}: ${amount} ${currency}`);
  return [`batch ${batchId}, ${counted(items.length)}`, ...totals];
}

const counted = (count: number): string => (count === 1 ? "1 payout" : `${count} payouts`);

const documentOf = (
  { file, batchId, orders }: Plan,
  faults: readonly Fault[],
  sent: PayoutBatch | undefined,
): JsonValue => ({
  ...{ file, batch_id: batchId, payouts: orders.items.length },
  totals: totalsOf(orders.items).map((total) => ({ ...total })),
  faults: faults.map((fault) => ({ ...fault })),
  sent: sent !== undefined,
  ...(sent === undefined ? {} : { batch: jsonOf(PayoutBatchSchema, sent) }),
});

const requestOf = ({ nodeId, currency, amount, walletAddress }: OrderItem) => ({
  nodeId,
  money: { currency: Currency[currency], amount },
  walletAddress,
});

/** A fault that the service found, with the place in the file. */
function placed(field: string, description: string, items: readonly OrderItem[]): string {
  const [, index, rest = field] = /^payout_requests\[(\d+)\]\.(.*)$/.exec(field) ?? [];
  const place = index === undefined ? undefined : items[Number(index)]?.place;
  return [place, rest, description].filter((part) => part !== undefined).join(": ");
}

/** The text of the file, at most 1 MiB. @throws UsageError when it cannot be read */
function contentOf(file: string): string {
  const bytes = Buffer.alloc(fileBytesMax + 1);
  let length = 0;
  try {
    const descriptor = openSync(file, "r");
    try {
      for (let read = -1; read !== 0 && length < bytes.length; length += read) {
        read = readSync(descriptor, bytes, length, bytes.length - length, null);
      }
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    throw new UsageError(`${file} cannot be read: ${(error as Error).message}`);
  }
  if (length > fileBytesMax) throw new UsageError(`${file} has more than 1 MiB: no batch is as large`);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, length));
  } catch {
    throw new UsageError(`${file} is not text in UTF-8`);
  }
}
