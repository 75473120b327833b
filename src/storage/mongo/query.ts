// Queries in MongoDB's words: each names its index, and a page begins with a seek to its cursor.
// Pure: supported.ts has checked every filter before.
import assert from "node:assert/strict";
import type { Document, Filter as MongoFilter } from "mongodb";
import type { CollectionDefinition, Cursor, Filter, Hint, IndexDefinition, Scalar } from "../collection.js";
import { cursorPaths, idIndex, indexOf } from "../cursor.js";
import { boundIds, requiredDemands } from "../filter.js";
import { assertBetween, assertOrders, assertRepeatsPartial } from "../supported.js";

/** Our `_id` is text; the driver expects an ObjectId. */
export interface Stored extends Document {
  readonly _id: string;
}

export type Query = MongoFilter<Stored>;

/**
 * The fields of an index at the server, without _id where it must not follow: the server refuses it in a TTL index, and
 * in a unique index it would make every key differ.
 */
export function keyOf({ key, unique, ttlSeconds }: IndexDefinition): readonly string[] {
  return unique || ttlSeconds !== undefined || key.includes("_id") ? key : [...key, "_id"];
}

/**
 * The name of the index that answers a query. It is left out for _id alone: the server then takes its fastest path,
 * which a hint would prevent. Everywhere else it keeps the planner from choosing an index that looks better for a
 * while.
 * @throws AssertionError when the query neither binds _id nor names an index, or does not repeat the condition of a
 * partial index
 */
export function hintOf(definition: CollectionDefinition, filter: Filter, { index }: Hint): { hint?: string } {
  if (index === undefined) {
    assert(boundIds(filter), `a query of ${definition.name} binds _id or names an index`);
    return isIdAlone(filter) ? {} : { hint: idIndex.name };
  }
  assertRepeatsPartial(indexOf(definition, index), filter);
  return { hint: index };
}

function isIdAlone(filter: Filter): boolean {
  return Object.keys(filter).length === 1 && typeof filter._id === "string";
}

/** Filters are in MongoDB's own language. */
export const toQuery = (filter: Filter): Query => filter as Query;

/** One scan of an index, in its order. */
export interface Walk {
  readonly index: IndexDefinition;
  /**
   * The whole key of the index, so that the index gives the order without a sort, even if a first field is fixed to
   * null.
   */
  readonly sort: Record<string, 1 | -1>;
  /** Paths whose values give a document's position in the walk. */
  readonly order: readonly string[];
}

/** @throws AssertionError when the filter does not repeat the condition of a partial index, or the index expires documents */
export function orderedWalk(
  definition: CollectionDefinition,
  filter: Filter,
  indexName: string,
  descending: boolean,
): Walk {
  const index = indexOf(definition, indexName);
  assertOrders(index);
  assertRepeatsPartial(index, filter);
  const demands = requiredDemands(filter);
  const isFixed = (path: string) => demands.some((demand) => demand.path === path && demand.operator === "$eq");
  const free = index.key.findIndex((path) => !isFixed(path));
  const order = free < 0 ? [] : index.key.slice(free);
  const direction = descending ? -1 : 1;
  return {
    index,
    sort: Object.fromEntries(sortPaths(index).map((path) => [path, direction])),
    order: index.unique || order.includes("_id") ? order : [...order, "_id"],
  };
}

const sortPaths = (index: IndexDefinition) => [...new Set([...index.key, ...(index.unique ? [] : ["_id"])])];

/**
 * The filter for everything after a cursor, or undefined when nothing can follow.
 * The first demand bounds the scan, so that the server seeks. The alternatives only drop ties before the cursor; alone
 * they would let the server scan the index from its beginning.
 * @throws AssertionError when the cursor is not of this index
 */
export function behind(
  { dates }: CollectionDefinition,
  { index, order }: Walk,
  after: Cursor,
  descending: boolean,
): Query[] | undefined {
  const paths = cursorPaths(index);
  assertBetween(after.length, paths.length, paths.length, `values of a cursor of ${index.name}`);
  const position = order.map((path) => revive(after[paths.indexOf(path)] ?? null, dates.includes(path)));
  const alternatives = order.flatMap((path, place) => {
    const next = beyond(position[place] ?? null, descending);
    if (next === undefined) return [];
    const same = order.slice(0, place).map((earlier, at) => ({ [earlier]: position[at] ?? null }));
    return [{ $and: [...same, { [path]: next }] }];
  });
  if (alternatives.length === 0) return undefined;
  const [first = "_id"] = order;
  const bound = from(position[0] ?? null, descending);
  return [...(bound === undefined ? [] : [{ [first]: bound }]), { $or: alternatives }] as Query[];
}

const revive = (value: string | number | boolean | null, isDate: boolean): Scalar =>
  isDate && typeof value === "number" ? new Date(value) : value;

/**
 * Null and missing sort before all other values. Comparisons hold within one type only, so "less" is written as "not
 * greater or equal" to include them.
 */
function beyond(value: Scalar, descending: boolean): object | undefined {
  if (value === null) return descending ? undefined : { $ne: null };
  return descending ? { $not: { $gte: value } } : { $gt: value };
}

function from(value: Scalar, descending: boolean): object | null | undefined {
  if (value === null) return descending ? null : undefined;
  return descending ? { $not: { $gt: value } } : { $gte: value };
}
