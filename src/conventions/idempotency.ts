// Asked twice, answered the same: how a request with an idempotency key is recognised, and what it means.
import { type DescMessage, type MessageShape, toJson } from "@bufbuild/protobuf";
import { sha256Hex } from "../crypto.js";
import { keyReused } from "../failure.js";
import { DuplicateKeyError } from "../storage/collection.js";

/** The fields of a document that was made under a key. */
export interface Keyed {
  readonly idempotency_id?: string;
  readonly idempotency_meaning?: string;
}

/** A key belongs to its sender and to the RPC that it is sent to; an empty key counts as none. */
export const idempotencyId = (procedure: string, subject: string, key: string): string | undefined =>
  key === "" ? undefined : sha256Hex(JSON.stringify([procedure, subject, key]));

/** A hash of the request as sent, normalised and without its key; it begins with the version of this rule. */
export function meaningOf<Desc extends DescMessage>(schema: Desc, request: MessageShape<Desc>): string {
  const { idempotency_key: _, ...rest } = toJson(schema, request, { useProtoFieldName: true }) as Record<
    string,
    unknown
  >;
  return `1:${sha256Hex(orderedJson(rest))}`;
}

/**
 * Makes something once per key, or on each call without a key. `make` puts the given fields into what it makes, under a
 * unique index. Asked again with the same meaning, it answers what the key has made, in its present state.
 * @throws Failure 5007 when the key was used with another meaning, and whatever `make` throws
 */
export async function once<Made extends Keyed>(ask: {
  readonly id: string | undefined;
  readonly meaning: string;
  readonly find: (id: string) => Promise<Made | null>;
  readonly make: (key: Keyed) => Promise<Made>;
}): Promise<{ readonly made: Made; readonly replayed: boolean }> {
  const { id, meaning } = ask;
  const earlier = async (): Promise<Made | null> => {
    const made = id === undefined ? null : await ask.find(id);
    if (made !== null && made.idempotency_meaning !== meaning) throw keyReused();
    return made;
  };
  const before = await earlier();
  if (before !== null) return { made: before, replayed: true };
  try {
    const key = id === undefined ? {} : { idempotency_id: id, idempotency_meaning: meaning };
    return { made: await ask.make(key), replayed: false };
  } catch (error) {
    // The same request may have come twice at the same time: its twin has taken the name, the slot or the key.
    const twin = await earlier();
    if (twin !== null) return { made: twin, replayed: true };
    throw error instanceof DuplicateKeyError ? keyReused() : error;
  }
}

/**
 * JSON with the names of each object in order, so that equal values have equal texts. The order is that of the names of
 * an object: whole numbers first.
 */
function orderedJson(value: unknown): string {
  const names = new Set<string>();
  addNames(value, names);
  return JSON.stringify(value, Object.keys(Object.fromEntries([...names].sort().map((name) => [name, null]))));
}

function addNames(value: unknown, names: Set<string>): void {
  if (Array.isArray(value)) for (const item of value) addNames(item, names);
  else if (typeof value === "object" && value !== null) {
    for (const [name, item] of Object.entries(value)) {
      names.add(name);
      if (typeof item === "object") addNames(item, names);
    }
  }
}
