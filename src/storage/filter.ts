// Evaluates a filter as MongoDB does. The embedded engine judges documents with it; SQL only narrows the candidates.
// Pure: supported.ts has checked every filter before.
import type { Condition, Filter, Scalar } from "./collection.js";

export type Fields = Readonly<Record<string, unknown>>;
export type Operator = "$eq" | "$ne" | "$gt" | "$gte" | "$lt" | "$lte" | "$in" | "$exists";
type Test = (found: readonly unknown[]) => boolean;

/** One condition on one path. `wanted` is an array for $in, true or false for $exists, else a scalar. */
export interface Demand {
  readonly path: string;
  readonly operator: Operator;
  readonly wanted: unknown;
}

/** True when the document meets every part of the filter. */
export function matches(filter: Filter, document: object): boolean {
  return compileFilter(filter)(document);
}

/** The same as a function, to judge many documents by one filter. */
export function compileFilter(filter: Filter): (document: object) => boolean {
  const parts = Object.entries(filter).map(([key, value]) => compilePart(key, value));
  return (document) => parts.every((part) => part(document));
}

function compilePart(key: string, value: Filter[string]): (document: object) => boolean {
  if (key === "$and" || key === "$or") {
    const parts = (value as readonly Filter[]).map(compileFilter);
    if (key === "$and") return (document) => parts.every((part) => part(document));
    return (document) => parts.some((part) => part(document));
  }
  const tests = demandsOf(key, value as Condition).map(compileDemand);
  const names = key.split(".");
  return (document) => {
    const found: unknown[] = [];
    collect(document, names, 0, found);
    return tests.every((test) => test(found));
  };
}

function compileDemand({ operator, wanted }: Demand): Test {
  if (operator === "$exists") return (found) => found.some((value) => value !== undefined) === wanted;
  if (operator === "$in") {
    const choices = wanted as readonly Scalar[];
    return (found) => found.some((value) => choices.some((choice) => equal(value, choice)));
  }
  const bound = wanted as Scalar;
  if (operator === "$eq") return (found) => found.some((value) => equal(value, bound));
  if (operator === "$ne") return (found) => !found.some((value) => equal(value, bound));
  if (operator === "$gt") return (found) => found.some((value) => compare(value, bound) > 0);
  if (operator === "$gte") return (found) => found.some((value) => compare(value, bound) >= 0);
  if (operator === "$lt") return (found) => found.some((value) => compare(value, bound) < 0);
  return (found) => found.some((value) => compare(value, bound) <= 0);
}

/** A bare scalar means $eq. */
export function demandsOf(path: string, condition: Condition): Demand[] {
  if (!isFields(condition)) return [{ path, operator: "$eq", wanted: condition }];
  return Object.entries(condition).map(([operator, wanted]) => ({ path, operator: operator as Operator, wanted }));
}

/** The demands that every match meets: those of the filter and of $and at any depth, but none of $or. */
export function requiredDemands(filter: Filter): Demand[] {
  return Object.entries(filter).flatMap(([key, value]) => {
    if (key === "$or") return [];
    if (key === "$and") return (value as readonly Filter[]).flatMap(requiredDemands);
    return demandsOf(key, value as Condition);
  });
}

/** The ids allowed by _id equality or $in; undefined when the filter does not bind _id. */
export function boundIds(filter: Filter): readonly string[] | undefined {
  const demands = requiredDemands(filter).filter(({ path }) => path === "_id");
  const one = demands.find(({ operator }) => operator === "$eq");
  if (one) return [one.wanted as string];
  const many = demands.find(({ operator }) => operator === "$in");
  return many && [...new Set(many.wanted as readonly string[])];
}

/**
 * Every value that the path leads to: `undefined` for a missing field; for an array its elements and then the array
 * itself. Inside an array only objects are followed, so a path through an array of scalars finds nothing, not a missing
 * field.
 */
function collect(value: unknown, names: readonly string[], depth: number, found: unknown[]): void {
  const name = names[depth];
  if (name === undefined) {
    if (Array.isArray(value)) found.push(...value);
    found.push(value);
  } else if (isFields(value)) {
    collect(ownField(value, name), names, depth + 1, found);
  } else if (Array.isArray(value)) {
    for (const element of value) if (isFields(element)) collect(element, names, depth, found);
  } else {
    found.push(undefined);
  }
}

/** The one value at a path that crosses no array; `undefined` if missing. */
export function valueAt(document: object, path: string): unknown {
  let value: unknown = document;
  for (const name of path.split(".")) {
    if (!isFields(value)) return undefined;
    value = ownField(value, name);
  }
  return value;
}

/** Ignores the prototype, so that a field named "constructor" is missing unless stored. */
export function ownField(fields: Fields, name: string): unknown {
  return Object.hasOwn(fields, name) ? fields[name] : undefined;
}

/** Whether the value is an object with fields: neither array nor Date. */
export function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** Null equals a missing field. */
function equal(found: unknown, wanted: Scalar): boolean {
  return wanted === null ? found === undefined || found === null : compare(found, wanted) === 0;
}

/** Negative, 0 or positive within one type; NaN between types, so that every comparison is false. */
export function compare(left: unknown, right: unknown): number {
  if (typeof left === "number" && typeof right === "number") return left < right ? -1 : Number(left > right);
  if (typeof left === "string" && typeof right === "string") return compareText(left, right);
  if (typeof left === "boolean" && typeof right === "boolean") return Number(left) - Number(right);
  if (left instanceof Date && right instanceof Date) return left.getTime() - right.getTime();
  return Number.NaN;
}

const surrogate = /[\ud800-\udfff]/;

/** By code point, as both engines sort UTF-8. The order of UTF-16 units is the same unless surrogates occur. */
function compareText(left: string, right: string): number {
  if (left === right) return 0;
  if (surrogate.test(left) || surrogate.test(right)) return Buffer.compare(Buffer.from(left), Buffer.from(right));
  return left < right ? -1 : 1;
}
