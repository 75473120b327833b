// What every subcommand of lucid-node payouts has in common: the service that it asks, the answer as text or JSON, and
// the refusal in one line.
import { randomBytes } from "node:crypto";
import { type DescMessage, type JsonValue, type MessageShape, toJson } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Currency } from "../../../gen/lucid/node/v1/common_pb.js";
import { PayoutPriority, PayoutStatus } from "../../../gen/lucid/node/v1/payout_service_pb.js";
import type { LucidClient } from "../../client/client.js";
import { type Clock, systemClock } from "../../clock.js";
import { openClient, refusalOf, type ServiceOptions } from "../connection.js";
import { untilSignalled } from "../service.js";
import { systemTerminal, type Terminal } from "../terminal.js";
import { UsageError } from "../usage.js";

export interface AskingOptions extends ServiceOptions {
  /** Print one JSON document instead of text. */
  readonly json: boolean;
}

/** What a subcommand uses of its process. */
export interface Means {
  readonly terminal: Terminal;
  readonly clock: Clock;
  /** A key that nobody has used. */
  readonly newKey: () => string;
  /** Aborts when a person wants the command to end. Asking for it takes over the process's signals. */
  readonly untilSignalled: () => AbortSignal;
}

export const systemMeans = (): Means => ({
  terminal: systemTerminal(),
  clock: systemClock,
  newKey: () => `cli-${randomBytes(16).toString("hex")}`,
  untilSignalled,
});

/** Does the work with a client. A refusal by the service is told in one line, with exit code 1. @throws UsageError */
export async function asking(
  options: ServiceOptions,
  { terminal }: Pick<Means, "terminal">,
  work: (payouts: LucidClient["payouts"]) => Promise<number>,
): Promise<number> {
  using client = openClient(options);
  try {
    return await work(client.payouts);
  } catch (error) {
    terminal.tell(refusalOf(error).message);
    return 1;
  }
}

/** The answer as the contract's JSON or as text. Returns the exit code. */
export const shown = (
  { terminal }: Pick<Means, "terminal">,
  json: boolean,
  document: () => JsonValue,
  text: () => string,
): number => terminal.answer(json ? JSON.stringify(document(), undefined, 2) : text());

/** As the service writes JSON: names of the .proto, values that are zero included. */
export const jsonOf = <Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): JsonValue =>
  toJson(schema, message, { alwaysEmitImplicit: true, useProtoFieldName: true });

export const currencyNamed = (name: keyof typeof Currency | undefined): Currency =>
  name === undefined ? Currency.UNSPECIFIED : Currency[name];
export const statusNamed = (name: keyof typeof PayoutStatus | undefined): PayoutStatus =>
  name === undefined ? PayoutStatus.UNSPECIFIED : PayoutStatus[name];
export const priorityNamed = (name: keyof typeof PayoutPriority | undefined): PayoutPriority =>
  name === undefined ? PayoutPriority.UNSPECIFIED : PayoutPriority[name];

/** A time such as 2026-03-01T12:00:00Z. @throws UsageError */
export function timeNamed(option: string, text: string | undefined): Timestamp | undefined {
  if (text === undefined) return undefined;
  const isWhole = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d)$/.test(text);
  const date = new Date(text);
  if (!isWhole || Number.isNaN(date.getTime())) {
    throw new UsageError(`${option} takes a time with its zone, such as 2026-03-01T12:00:00Z`);
  }
  return timestampFromDate(date);
}

/** What a person names: a payout or a batch. @throws UsageError */
export function matterNamed(id: string): { readonly payoutId: string } | { readonly batchId: string } {
  if (id.startsWith("batch_")) return { batchId: id };
  if (id.startsWith("payout_")) return { payoutId: id };
  throw new UsageError(`The id of a payout begins with payout_, that of a batch with batch_`);
}
