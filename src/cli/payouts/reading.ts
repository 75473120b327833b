// lucid-node payouts list, show, queue and reconcile: what is paid, what waits, and why.

import type { Currency } from "../../../gen/lucid/node/v1/common_pb.js";
import {
  GetPayoutBatchResponseSchema,
  GetPayoutQueueResponseSchema,
  type Payout,
  type PayoutBatch,
  type PayoutEvent,
  PayoutEventSchema,
  PayoutSchema,
  type PayoutStatus,
  ReconcilePayoutsResponseSchema,
} from "../../../gen/lucid/node/v1/payout_service_pb.js";
import type { LucidClient } from "../../client/client.js";
import { present } from "../../present.js";
import {
  type AskingOptions,
  asking,
  currencyNamed,
  jsonOf,
  type Means,
  matterNamed,
  shown,
  statusNamed,
  systemMeans,
  timeNamed,
} from "./asking.js";
import { batchText, payoutsText, queueText, reconciledText, storyText } from "./text.js";

type Payouts = LucidClient["payouts"];

/** The most that the service puts on a page. */
const pageMax = 100;

/** Items of pages, in order, at most so many. */
async function gathered<Item>(
  max: number,
  pageOf: (
    limit: number,
    position: { case: "pageToken"; value: string } | { case: undefined },
  ) => Promise<{ items: readonly Item[]; next: string | undefined }>,
): Promise<Item[]> {
  const all: Item[] = [];
  let token: string | undefined;
  do {
    const position =
      token === undefined ? ({ case: undefined } as const) : ({ case: "pageToken", value: token } as const);
    const { items, next } = await pageOf(Math.min(pageMax, max - all.length), position);
    all.push(...items);
    token = next || undefined;
  } while (token !== undefined && all.length < max);
  return all;
}

export interface ListOptions extends AskingOptions {
  readonly nodeId?: string | undefined;
  readonly batchId?: string | undefined;
  readonly status?: Exclude<keyof typeof PayoutStatus, "UNSPECIFIED"> | undefined;
  readonly currency?: Exclude<keyof typeof Currency, "UNSPECIFIED"> | undefined;
  readonly since?: string | undefined;
  readonly until?: string | undefined;
  readonly limit: number;
}

/** Returns the exit code. @throws UsageError */
export async function list(options: ListOptions, means: Means = systemMeans()): Promise<number> {
  const filter = present({
    nodeId: options.nodeId ?? "",
    batchId: options.batchId ?? "",
    status: statusNamed(options.status),
    currency: currencyNamed(options.currency),
    since: timeNamed("--since", options.since),
    until: timeNamed("--until", options.until),
  });
  return asking(options, means, async (payouts) => {
    const found = await gathered<Payout>(options.limit, async (limit, position) => {
      const answer = await payouts.listPayouts({ ...filter, limit, position });
      return { items: answer.payouts, next: answer.pagination?.nextPageToken };
    });
    const document = () => ({ payouts: found.map((payout) => jsonOf(PayoutSchema, payout)) });
    return shown(means, options.json, document, () => (found.length === 0 ? "no payouts" : payoutsText(found)));
  });
}

/** More steps than any payout takes. */
const eventsMax = 10_000;

const eventsOf = (payouts: Payouts, payoutId: string): Promise<PayoutEvent[]> =>
  gathered(eventsMax, async (limit, position) => {
    const answer = await payouts.listPayoutEvents({ payoutId, limit, position });
    return { items: answer.events, next: answer.pagination?.nextPageToken };
  });

/** The story of a payout, or the sums of a batch. Returns the exit code. @throws UsageError */
export async function show(id: string, options: AskingOptions, means: Means = systemMeans()): Promise<number> {
  const matter = matterNamed(id);
  return asking(options, means, async (payouts) => {
    if ("batchId" in matter) {
      const answer = await payouts.getPayoutBatch(matter);
      return shownBatch(means, options.json, answer.batch as PayoutBatch);
    }
    const events = await eventsOf(payouts, matter.payoutId);
    // Read after its story, so that the state is never older than the last step that is told.
    const { payout } = await payouts.getPayout(matter);
    const document = () => ({
      payout: jsonOf(PayoutSchema, payout as Payout),
      events: events.map((event) => jsonOf(PayoutEventSchema, event)),
    });
    return shown(means, options.json, document, () => storyText(payout as Payout, events));
  });
}

const shownBatch = (means: Means, json: boolean, batch: PayoutBatch): number =>
  shown(
    means,
    json,
    () => jsonOf(GetPayoutBatchResponseSchema, { $typeName: "lucid.node.v1.GetPayoutBatchResponse", batch }),
    () => batchText(batch),
  );

/** Returns the exit code. @throws UsageError */
export async function queue(options: AskingOptions, means: Means = systemMeans()): Promise<number> {
  return asking(options, means, async (payouts) => {
    const answer = await payouts.getPayoutQueue({});
    return shown(
      means,
      options.json,
      () => jsonOf(GetPayoutQueueResponseSchema, answer),
      () => queueText(answer),
    );
  });
}

/** Returns the exit code: 1 as well when a person has to look at something. @throws UsageError */
export async function reconcile(options: AskingOptions, means: Means = systemMeans()): Promise<number> {
  return asking(options, means, async (payouts) => {
    // Reads every solid block that was not compared before.
    const answer = await payouts.reconcilePayouts({}, { timeoutMs: 120_000 });
    const code = shown(
      means,
      options.json,
      () => jsonOf(ReconcilePayoutsResponseSchema, answer),
      () => reconciledText(answer),
    );
    const { report, currencies } = answer;
    const isClean =
      report?.transfers.length === 0 &&
      currencies.every(({ missing, orphan, wrong, problem }) => missing + orphan + wrong === 0n && problem === "");
    return isClean ? code : 1;
  });
}
