// Asked twice, answered the same: what a request with an idempotency key is known by, and what it means.
import { type DescMessage, type MessageShape, toJson } from "@bufbuild/protobuf";
import { sha256Hex } from "../crypto.js";

/** A key belongs to the one who sends it and to the RPC it is sent to. */
export const idempotencyId = (procedure: string, subject: string, key: string): string =>
  sha256Hex(JSON.stringify([procedure, subject, key]));

/** The request as sent, normalised, without its key, as a hash that begins with the version of this rule. */
export function meaningOf<Desc extends DescMessage>(schema: Desc, request: MessageShape<Desc>): string {
  const { idempotency_key: _, ...rest } = toJson(schema, request, { useProtoFieldName: true }) as Record<
    string,
    unknown
  >;
  return `1:${sha256Hex(JSON.stringify(sorted(rest)))}`;
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, item]) => [key, sorted(item)]));
}
