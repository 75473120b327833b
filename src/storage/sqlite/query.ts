import type { CollectionDefinition, Filter, IndexDefinition, Scalar } from "../collection.js";
import { idIndex, indexOf } from "../cursor.js";
import { compare, type Demand, isFields, requiredDemands } from "../filter.js";
import { assertRepeatsPartial } from "../supported.js";
import type { SqlValue } from "./file.js";

/** One scan of an index: first fields with fixed values, then the order of the other fields. */
export interface Walk {
  readonly table: string;
  readonly indexedBy: string;
  /** The condition of a partial index, or empty. */
  readonly partial: string;
  readonly fixed: readonly Term[];
  /** The fixed fields that another walk of the same query fixes to another value. */
  readonly chosen: readonly Term[];
  /** Paths that order the results. Together they are unique for each document. */
  readonly order: readonly string[];
  readonly bounds: readonly Term[];
}

/** `path operator value`, as SQL. */
interface Term {
  readonly path: string;
  readonly operator: "IS" | ">" | ">=" | "<" | "<=";
  readonly value: SqlValue;
}

/** A position in an order: a value for each of its paths. */
export type Position = readonly SqlValue[];

export interface Query {
  readonly sql: string;
  readonly values: readonly SqlValue[];
}

const quoted = (name: string) => `"${name}"`;
const sqlIndexName = (collection: string, index: string) => quoted(`${collection}.${index}`);
const comparisons = { $gt: ">", $gte: ">=", $lt: "<", $lte: "<=" } as const;

/** The SQL for the value of a path. Index and query must use the same text, or SQLite does not use the index. */
export function expression(path: string): string {
  return path === "_id" ? "_id" : `json_extract(doc, ${jsonPath(path)})`;
}

function jsonPath(path: string): string {
  const steps = path.split(".").map((name) => `."${name}"`);
  return literal(`$${steps.join("")}`);
}

const literal = (text: string) => `'${text.replaceAll("'", "''")}'`;

export function toSql(value: Scalar | undefined): SqlValue {
  if (value === undefined) return null;
  if (value instanceof Date) return value.getTime();
  return typeof value === "boolean" ? Number(value) : value;
}

export const createTable = ({ name }: CollectionDefinition) =>
  `CREATE TABLE IF NOT EXISTS ${quoted(name)} (_id TEXT PRIMARY KEY NOT NULL, doc TEXT NOT NULL)`;

/** A unique index has no _id appended, which would make every key differ. */
export function createIndex({ name }: CollectionDefinition, index: IndexDefinition): string {
  const columns = [...index.key.map(expression), ...(index.unique || index.key.includes("_id") ? [] : ["_id"])];
  const unique = index.unique ? "UNIQUE " : "";
  const where = index.partial ? ` WHERE ${partialCondition(index)}` : "";
  return `CREATE ${unique}INDEX ${sqlIndexName(name, index.name)} ON ${quoted(name)} (${columns.join(", ")})${where}`;
}

export const dropIndex = ({ name }: CollectionDefinition, index: IndexDefinition) =>
  `DROP INDEX IF EXISTS ${sqlIndexName(name, index.name)}`;

/** The name of an index in sqlite_schema. */
export const indexNameInSchema = ({ name }: CollectionDefinition, index: IndexDefinition) => `${name}.${index.name}`;

function partialCondition({ partial = {} }: IndexDefinition): string {
  const conditions = Object.entries(partial).map(([path, wanted]) => {
    const type = `json_type(doc, ${jsonPath(path)})`;
    if (isFields(wanted)) return `${type} IS NOT NULL`;
    if (typeof wanted === "boolean") return `${type} = '${wanted}'`;
    const value = toSql(wanted as Scalar);
    if (value === null) return `${expression(path)} IS NULL`;
    return `${expression(path)} = ${typeof value === "string" ? literal(value) : value}`;
  });
  return conditions.join(" AND ");
}

const walksMax = 1000;

/**
 * The walks that, one after the other, cover all matches in order or in reverse. Equality fixes the first fields of the
 * index; so does $in, with one walk for each choice, so the rows read do not grow with the table. If $in would need
 * more than 1000 walks, it only filters the results.
 */
export function orderedWalks(
  definition: CollectionDefinition,
  filter: Filter,
  indexName: string,
  descending = false,
): Walk[] {
  const index = indexOf(definition, indexName);
  assertRepeatsPartial(index, filter);
  const demands = requiredDemands(filter);
  let prefixes: Term[][] = [[]];
  for (const path of index.key) {
    const choices = choicesOf(demands, path);
    if (!choices || choices.length * prefixes.length > walksMax) break;
    const inOrder = descending ? [...choices].reverse() : choices;
    prefixes = prefixes.flatMap((prefix) => inOrder.map((value) => [...prefix, is(path, value)]));
  }
  return prefixes.map((fixed) => makeWalk(definition, index, demands, fixed));
}

/**
 * Where a walk continues after a position in the whole index, given as the value of a path there: at its own position,
 * at its beginning (undefined), or nowhere, since all of it comes before ("over").
 */
export function placeIn(
  walk: Walk,
  valueAtPath: (path: string) => SqlValue,
  descending: boolean,
): Position | undefined | "over" {
  for (const { path, value } of walk.chosen) {
    const order = compareSql(value, valueAtPath(path)) * (descending ? -1 : 1);
    if (order !== 0) return order < 0 ? "over" : undefined;
  }
  return walk.order.map(valueAtPath);
}

/** As SQLite sorts: null, then numbers, then text by its bytes. */
function compareSql(left: SqlValue, right: SqlValue): number {
  if (typeof left === typeof right && left !== null && right !== null) return compare(left, right);
  return rankOf(left) - rankOf(right);
}

const rankOf = (value: SqlValue): number => (value === null ? 0 : typeof value === "number" ? 1 : 2);

function makeWalk(
  { name }: CollectionDefinition,
  index: IndexDefinition,
  demands: readonly Demand[],
  fixed: readonly Term[],
): Walk {
  const free = index.key.slice(fixed.length);
  return {
    table: quoted(name),
    indexedBy: index === idIndex ? "" : ` INDEXED BY ${sqlIndexName(name, index.name)}`,
    partial: partialCondition(index),
    fixed,
    chosen: fixed.filter(({ path }) => !fixedValue(demands, path)),
    order: index.unique || free.includes("_id") ? free : [...free, "_id"],
    bounds: demands.filter(({ path }) => free.includes(path)).flatMap(boundOf),
  };
}

function fixedValue(demands: readonly Demand[], path: string): { value: SqlValue } | undefined {
  const demand = demands.find((one) => one.path === path && one.operator === "$eq");
  return demand && { value: toSql(demand.wanted as Scalar) };
}

function choicesOf(demands: readonly Demand[], path: string): SqlValue[] | undefined {
  const fixed = fixedValue(demands, path);
  if (fixed) return [fixed.value];
  const many = demands.find((one) => one.path === path && one.operator === "$in");
  return many && [...new Set((many.wanted as readonly Scalar[]).map(toSql))].sort(compareSql);
}

function boundOf({ path, operator, wanted }: Demand): Term[] {
  const sign = comparisons[operator as keyof typeof comparisons];
  return sign ? [{ path, operator: sign, value: toSql(wanted as Scalar) }] : [];
}

/**
 * The queries that, one after the other, return everything after a position (absent: everything), in order. Each fixes
 * a shorter prefix of the position and continues after its next value, so that each is one seek in the index. A single
 * query with the same meaning would need OR or row values, which make SQLite scan ties or the whole index.
 * Missing values sort before all others, as in MongoDB.
 */
export function queriesBehind(walk: Walk, descending: boolean, position?: Position, columns = "doc"): Query[] {
  if (!position) return [select(walk, descending, [], walk.bounds, 0, columns)];
  const queries: Query[] = [];
  for (let place = walk.order.length - 1; place >= 0; place--) {
    const same = position.slice(0, place).map((value, at) => is(walk.order[at], value));
    for (const next of behind(walk.order[place], position[place] ?? null, descending)) {
      // With two bounds on one side, SQLite may seek by the bound that is not the position.
      const done = new Set([...same.map((term) => term.path), next.operator === "IS" ? next.path : ""]);
      const bounds = walk.bounds.filter(
        (bound) => !done.has(bound.path) && !(bound.path === next.path && bound.operator[0] === next.operator[0]),
      );
      const orderFrom = next.operator === "IS" ? place + 1 : place;
      queries.push(select(walk, descending, [...same, next], bounds, orderFrom, columns));
    }
  }
  return queries;
}

const is = (path = "", value: SqlValue): Term => ({ path, operator: "IS", value });

function behind(path = "", value: SqlValue, descending: boolean): Term[] {
  if (!descending)
    return [value === null ? { path, operator: ">=", value: -Infinity } : { path, operator: ">", value }];
  if (value === null) return [];
  return path === "_id" ? [{ path, operator: "<", value }] : [{ path, operator: "<", value }, is(path, null)];
}

/** The caller adds the last value of the query: the most rows to return. */
function select(
  walk: Walk,
  descending: boolean,
  place: readonly Term[],
  bounds: readonly Term[],
  orderFrom: number,
  columns: string,
): Query {
  const terms = [...walk.fixed, ...place, ...bounds];
  const conditions = [...terms.map((term) => `${expression(term.path)} ${term.operator} ?`)];
  if (walk.partial) conditions.push(walk.partial);
  const where = conditions.length > 0 ? ` WHERE ${conditions.join(" AND ")}` : "";
  const order = walk.order.slice(orderFrom).map((path) => expression(path) + (descending ? " DESC" : ""));
  const orderBy = order.length > 0 ? ` ORDER BY ${order.join(", ")}` : "";
  return {
    sql: `SELECT ${columns} FROM ${walk.table}${walk.indexedBy}${where}${orderBy} LIMIT ?`,
    values: terms.map((term) => term.value),
  };
}

/**
 * The walk whose row count is the answer, so that only the index is read and no document. Undefined if the filter asks
 * for more than the index knows exactly, which is text values and its partial condition.
 */
export function countedWalk(definition: CollectionDefinition, filter: Filter, indexName: string): Walk | undefined {
  const index = indexOf(definition, indexName);
  if (index === idIndex || "$or" in filter || "$and" in filter) return undefined;
  const open = requiredDemands(filter).filter((demand) => !repeats(index, demand));
  const isExact = open.every(({ operator, wanted }) => operator === "$eq" && typeof wanted === "string");
  const prefix = index.key.slice(0, open.length);
  if (!isExact || !prefix.every((path) => open.some((demand) => demand.path === path))) return undefined;
  return makeWalk(
    definition,
    index,
    open,
    prefix.map((path) => is(path, fixedValue(open, path)?.value ?? null)),
  );
}

/** Counts the rows of a query, up to the last value, which the caller adds. */
export const countOf = ({ sql, values }: Query): Query => ({ sql: `SELECT COUNT(*) AS count FROM (${sql})`, values });

/** The row at an offset in a query. The caller adds the offset as the last value. */
export const rowAt = ({ sql, values }: Query): Query => ({ sql: `${sql} OFFSET ?`, values });

/** The columns that give a row's position in the walk; positionOfRow reads them. */
export const positionColumns = ({ order }: Walk): string =>
  order.length === 0 ? "1" : order.map((path, place) => `${expression(path)} AS at${place}`).join(", ");

export const positionOfRow = ({ order }: Walk, row: Readonly<Record<string, unknown>>): Position =>
  order.map((_, place) => row[`at${place}`] as SqlValue);

/** Whether the demand is exactly the condition of the partial index. */
function repeats({ partial = {} }: IndexDefinition, { path, operator, wanted }: Demand): boolean {
  if (!Object.hasOwn(partial, path)) return false;
  const condition = partial[path];
  if (isFields(condition)) return operator === "$exists" && wanted === true;
  return operator === "$eq" && condition === wanted;
}

/** Deletes documents whose date is at or before the first value; the second value is the most to delete. */
export function deleteExpired({ name }: CollectionDefinition, index: IndexDefinition): string {
  const [path = ""] = index.key;
  const partial = index.partial ? ` AND ${partialCondition(index)}` : "";
  const table = quoted(name);
  const expired = `SELECT _id FROM ${table} INDEXED BY ${sqlIndexName(name, index.name)} WHERE ${expression(path)} <= ?`;
  return `DELETE FROM ${table} WHERE _id IN (${expired}${partial} LIMIT ?)`;
}

/** Statements on one document. */
export function documentStatements({ name }: CollectionDefinition) {
  return {
    insert: `INSERT INTO ${quoted(name)} (_id, doc) VALUES (?, ?)`,
    read: `SELECT doc FROM ${quoted(name)} WHERE _id = ?`,
    replace: `UPDATE ${quoted(name)} SET doc = ? WHERE _id = ?`,
    remove: `DELETE FROM ${quoted(name)} WHERE _id = ?`,
  };
}
