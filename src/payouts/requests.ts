// What requests ask for, in this folder's own types. Amounts become minor units, addresses get their one spelling.
import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { type Money, MoneySchema } from "../../gen/lucid/node/v1/common_pb.js";
import {
  type CreateBatchPayoutRequest,
  CreateBatchPayoutRequestSchema,
  type CreatePayoutRequest,
  CreatePayoutRequestSchema,
  type ListPayoutsRequest,
  PayoutPriority,
  type PayoutRequest,
  type RetryPayoutRequest,
  RetryPayoutRequestSchema,
} from "../../gen/lucid/node/v1/payout_service_pb.js";
import { meaningOf } from "../conventions/idempotency.js";
import { dateOf } from "../conventions/time.js";
import { sha256Hex } from "../crypto.js";
import { type FieldViolation, malformed } from "../failure.js";
import { newBatchId } from "../ids.js";
import { present } from "../present.js";
import { plainCheck } from "../rpc/validate.js";
import type { Priority, Status } from "./document.js";
import { amountProblem, type Currency, formatAmount, parseAmount } from "./money.js";
import { canonicalAddress, recipientProblem } from "./recipient.js";
import { currencyFromWire, currencyToWire, priorityFromWire, statusFromWire } from "./wire.js";

/** One payment that somebody wants. */
export interface Item {
  readonly nodeId: string;
  readonly currency: Currency;
  readonly amountMinor: bigint;
  /** In its one spelling; absent: the node's own address. */
  readonly recipient?: string;
}

export interface Terms {
  readonly priority: Priority;
  readonly scheduledAt?: Date;
  /**
   * What is wrong with the order by the present time and the present gateways. It matters only for an order that is new:
   * a replay must be answered although its time has passed since.
   */
  readonly problemsIfNew: readonly FieldViolation[];
}

export interface PayoutOrder extends Item, Terms {}

export interface BatchOrder extends Terms {
  readonly batchId: string;
  readonly items: readonly Item[];
  readonly notificationUrl?: string;
}

/** A key of the caller: `id` is unique in the whole service; `meaning` tells whether the same thing is asked for. */
export interface Key {
  readonly id: string;
  readonly meaning: string;
}

export interface Present {
  readonly now: Date;
  /** What the gateway of the currency finds wrong with a recipient; undefined when fine, or without a gateway. */
  readonly gatewayProblem: (currency: Currency, recipient: string) => string | undefined;
}

const pastMaxMs = 60_000;
const aheadMaxMs = 365 * 24 * 3_600_000;

/** @throws Failure 4001 that names each field at fault */
export function payoutOrder(request: CreatePayoutRequest, at: Present): { order: PayoutOrder; key: Key } {
  const { item, violations } = readItem(request, "");
  if (item === undefined) throw malformed(...violations);
  const order = { ...item, ...terms(request, [[item, ""]], at) };
  const normalised = { ...request, ...normalisedItem(item) };
  return { order, key: keyOf("CreatePayout", CreatePayoutRequestSchema, normalised) };
}

/** @throws Failure 4001 that names each field at fault, such as payout_requests[3].money.amount */
export function batchOrder(request: CreateBatchPayoutRequest, at: Present): { order: BatchOrder; meaning: string } {
  const urlProblem = notificationProblem(request.notificationUrl);
  const read = request.payoutRequests.map((one, index) => readItem(one, pathOf(index)));
  const violations = [...read.flatMap((one) => one.violations), ...urlProblem];
  if (violations.length > 0) throw malformed(...violations);
  const items = read.flatMap(({ item }) => (item === undefined ? [] : [item]));
  const order: BatchOrder = {
    batchId: request.batchId || newBatchId(at.now),
    items,
    ...(request.notificationUrl === "" ? {} : { notificationUrl: request.notificationUrl }),
    ...terms(
      request,
      items.map((item, index) => [item, pathOf(index)]),
      at,
    ),
  };
  // The id is the key, not what the key means: a caller may come back with the id that the service has made.
  const payoutRequests = request.payoutRequests.map((one, index) => ({ ...one, ...normalisedItem(items[index]) }));
  const normalised = { ...request, batchId: "", payoutRequests };
  return { order, meaning: meaningIn("CreateBatchPayout", CreateBatchPayoutRequestSchema, normalised) };
}

export const retryKey = (request: RetryPayoutRequest): Key => keyOf("RetryPayout", RetryPayoutRequestSchema, request);

export interface PayoutFilter {
  readonly nodeId?: string;
  readonly status?: Status;
  readonly currency?: Currency;
  readonly batchId?: string;
  /** Created then or later. */
  readonly since?: Date;
  /** Created before then. */
  readonly until?: Date;
}

/** @throws Failure 4001 */
export const payoutFilter = (request: ListPayoutsRequest): PayoutFilter =>
  present({
    nodeId: request.nodeId || undefined,
    status: statusFromWire(request.status),
    currency: currencyFromWire(request.currency),
    batchId: request.batchId || undefined,
    since: request.since && dateOf("since", request.since),
    until: request.until && dateOf("until", request.until),
  });

const pathOf = (index: number): string => `payout_requests[${index}].`;

/** The item, or what is wrong with the request by itself: at any time, and whatever the gateways are. */
function readItem(
  { nodeId, money, walletAddress }: Pick<PayoutRequest, "nodeId" | "money" | "walletAddress">,
  path: string,
): { readonly item?: Item; readonly violations: readonly FieldViolation[] } {
  const { amount, currency: wireCurrency }: Pick<Money, "amount" | "currency"> = money ?? { amount: "", currency: 0 };
  const currency = currencyFromWire(wireCurrency);
  if (currency === undefined) return wrong(`${path}money.currency`, "is required");
  const problem = amountProblem(currency, amount);
  const addressProblem = walletAddress === "" ? undefined : recipientProblem(currency, walletAddress);
  const violations = [
    ...wrong(`${path}money.amount`, problem).violations,
    ...wrong(`${path}wallet_address`, addressProblem).violations,
  ];
  const amountMinor = parseAmount(currency, amount);
  if (violations.length > 0 || amountMinor === undefined) return { violations };
  const recipient = walletAddress === "" ? {} : { recipient: canonicalAddress(walletAddress) };
  return { item: { nodeId, currency, amountMinor, ...recipient }, violations };
}

const wrong = (field: string, description: string | undefined): { readonly violations: readonly FieldViolation[] } => ({
  violations: description === undefined ? [] : [{ field, description }],
});

function terms(
  request: Pick<CreatePayoutRequest, "priority" | "scheduledAt">,
  items: readonly (readonly [Item, string])[],
  { now, gatewayProblem }: Present,
): Terms {
  const scheduledAt = request.scheduledAt && dateOf("scheduled_at", request.scheduledAt);
  const gatewayProblems = items.flatMap(([{ currency, recipient }, path]) =>
    recipient === undefined ? [] : wrong(`${path}wallet_address`, gatewayProblem(currency, recipient)).violations,
  );
  return {
    priority: priorityFromWire(request.priority) ?? "normal",
    ...present({ scheduledAt }),
    problemsIfNew: [...wrong("scheduled_at", scheduleProblem(scheduledAt, now)).violations, ...gatewayProblems],
  };
}

function scheduleProblem(at: Date | undefined, now: Date): string | undefined {
  const aheadMs = at === undefined ? 0 : at.getTime() - now.getTime();
  if (aheadMs < -pastMaxMs) return "is in the past";
  return aheadMs > aheadMaxMs ? "must be at most 365 days ahead" : undefined;
}

function notificationProblem(url: string): readonly FieldViolation[] {
  if (url === "") return [];
  const { protocol, username, password } = URL.canParse(url)
    ? new URL(url)
    : { protocol: "", username: "", password: "" };
  const plain = ["http:", "https:"].includes(protocol) && username === "" && password === "";
  return wrong("notification_url", plain ? undefined : "must be an http or https URL without user and password")
    .violations;
}

/** "1.50" means "1.5", and an address means the same in any spelling. */
const normalisedItem = (item: Item | undefined) =>
  item === undefined
    ? {}
    : {
        money: create(MoneySchema, {
          currency: currencyToWire[item.currency],
          amount: formatAmount({ currency: item.currency, minor: item.amountMinor }),
        }),
        walletAddress: item.recipient ?? "",
      };

/** Keys of all RPCs that make a payout are one space, whoever sends them. */
function keyOf<Desc extends DescMessage>(
  rpc: string,
  schema: Desc,
  request: MessageShape<Desc> & { readonly idempotencyKey: string },
): Key {
  const id = sha256Hex(JSON.stringify(["payout", request.idempotencyKey]));
  return { id, meaning: meaningIn(rpc, schema, request) };
}

/** The meaning with the RPC in it, because a key may come to another RPC. It begins with the version of this rule. */
const meaningIn = <Desc extends DescMessage>(rpc: string, schema: Desc, request: MessageShape<Desc>): string =>
  `1:${sha256Hex(JSON.stringify([rpc, meaningOf(schema, request)]))}`;

const itemsMax = 1000;
const nodeIdForm = /^node_[a-zA-Z0-9_-]{3,59}$/;
const batchIdForm = /^batch_[a-zA-Z0-9_-]{2,58}$/;
const amountForm = /^(?=.{1,32}$)(0|[1-9][0-9]*)([.][0-9]{1,8})?$/;

const priorities: ReadonlySet<number> = new Set(Object.values(PayoutPriority));

const isPlain = (item: PayoutRequest): boolean =>
  nodeIdForm.test(item.nodeId) &&
  item.walletAddress.length <= 64 &&
  item.money !== undefined &&
  currencyFromWire(item.money.currency) !== undefined &&
  amountForm.test(item.money.amount);

/**
 * The rules of the contract for a batch, in short: a thousand items take the general validator longer than all that
 * follows. No violations, or undefined: then the validator names what it finds, if it finds anything. */
export function batchViolations(request: CreateBatchPayoutRequest): readonly [] | undefined {
  const { payoutRequests: items } = request;
  const isFine =
    (request.batchId === "" || batchIdForm.test(request.batchId)) &&
    items.length >= 1 &&
    items.length <= itemsMax &&
    priorities.has(request.priority) &&
    request.notificationUrl === "" &&
    items.every(isPlain);
  return isFine ? [] : undefined;
}

export const batchCheck = plainCheck(CreateBatchPayoutRequestSchema, batchViolations);
