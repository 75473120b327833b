// Applies an update as MongoDB does. Pure: the given document is not changed, untouched parts are shared.
// supported.ts has checked every update before: no path is in two operators.
import type { Filter, Update } from "./collection.js";
import { compare, type Fields, isFields, ownField, requiredDemands } from "./filter.js";

/** The update does not fit the stored document, for example $inc on a string. The document is not changed. */
export class UpdateError extends Error {
  override readonly name = "UpdateError";
}

type Change = (old: unknown) => unknown;

/**
 * The document after the update. `inserting` applies $setOnInsert too.
 * @throws UpdateError when a field has a type that its operator does not accept, or its parent has no fields
 */
export function applyUpdate<T extends object>(document: T, update: Update, inserting = false): T {
  let result: Fields = document as Fields;
  for (const path of Object.keys(update.$unset ?? {})) result = removeAt(result, path.split("."));
  for (const [path, change] of changesOf(update, inserting)) result = changeAt(result, path.split("."), path, change);
  return result as T;
}

/** The starting document of an upsert: the filter's equalities as fields. */
export function documentFromFilter(filter: Filter): Fields {
  const equalities = requiredDemands(filter).filter(({ operator }) => operator === "$eq");
  return equalities.reduce<Fields>(
    (document, { path, wanted }) => changeAt(document, path.split("."), path, () => wanted),
    {},
  );
}

function changesOf(update: Update, inserting: boolean): [path: string, change: Change][] {
  const each = <Argument>(
    operands: Readonly<Record<string, Argument>> | undefined,
    change: (argument: Argument, path: string) => Change,
  ) =>
    Object.entries(operands ?? {})
      .filter(([, operand]) => operand !== undefined)
      .map(([path, operand]): [string, Change] => [path, change(operand, path)]);
  const set =
    (value: unknown): Change =>
    () =>
      value;
  return [
    ...each(update.$set, set),
    ...each(inserting ? update.$setOnInsert : undefined, set),
    ...each(update.$inc, increment),
    ...each(update.$min, (bound) => (old) => (old === undefined || orderAnyTypes(bound, old) < 0 ? bound : old)),
    ...each(update.$max, (bound) => (old) => (old === undefined || orderAnyTypes(bound, old) > 0 ? bound : old)),
    ...each(update.$push, push),
  ];
}

function increment(by: number, path: string): Change {
  return (old) => {
    if (old === undefined) return by;
    if (typeof old !== "number") throw new UpdateError(`$inc on ${path}, which is not a number`);
    if (!Number.isFinite(old + by)) throw new UpdateError(`$inc makes ${path} larger than the largest number`);
    return old + by;
  };
}

function push(
  { $each, $slice }: { readonly $each: readonly unknown[]; readonly $slice?: number },
  path: string,
): Change {
  return (old) => {
    if (old !== undefined && !Array.isArray(old)) throw new UpdateError(`$push on ${path}, which is not an array`);
    const all = [...(old ?? []), ...$each];
    if ($slice === undefined) return all;
    return $slice < 0 ? all.slice($slice) : all.slice(0, $slice);
  };
}

function changeAt(parent: unknown, [name, ...rest]: readonly string[], path: string, change: Change): Fields {
  if (!isFields(parent)) throw new UpdateError(`${path} is inside a value that has no fields`);
  if (name === undefined) return parent;
  const old = ownField(parent, name);
  const value = rest.length > 0 ? changeAt(old === undefined ? {} : old, rest, path, change) : change(old);
  return value === undefined ? parent : { ...parent, [name]: value };
}

/** A path that leads nowhere is ignored. */
function removeAt(parent: Fields, [name, ...rest]: readonly string[]): Fields {
  if (name === undefined || !Object.hasOwn(parent, name)) return parent;
  const { [name]: old, ...others } = parent;
  if (rest.length === 0) return others;
  return isFields(old) ? { ...parent, [name]: removeAt(old, rest) } : parent;
}

/** BSON's order of types, which $min and $max follow where types differ: null, number, string, object, array, boolean, date. */
function orderAnyTypes(bound: number | Date, stored: unknown): number {
  const order = compare(bound, stored);
  return Number.isNaN(order) ? typeRank(bound) - typeRank(stored) : order;
}

function typeRank(value: unknown): number {
  if (value === null) return 0;
  if (value instanceof Date) return 6;
  if (Array.isArray(value)) return 4;
  return { number: 1, string: 2, object: 3, boolean: 5 }[typeof value as "number" | "string" | "object" | "boolean"];
}
