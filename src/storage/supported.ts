// The gate before both engines: it refuses, loudly, every call that they would not answer alike, as our own mistake.
// Everything throws AssertionError. Nothing here knows an engine.
import assert from "node:assert/strict";
import type { CollectionDefinition, Condition, Filter, IndexDefinition, Scalar, Update } from "./collection.js";
import {
  boundIds,
  type Demand,
  demandsOf,
  type Fields,
  isFields,
  matches,
  requiredDemands,
  valueAt,
} from "./filter.js";

type Definition = Pick<CollectionDefinition, "dates" | "indexes">;

const filterOperators = new Set(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$exists"]);
const updateOperators = new Set(["$set", "$setOnInsert", "$unset", "$inc", "$min", "$max", "$push"]);
const depthMax = 50;
const choicesMax = 1000;

/** The filter, and the update with it, are within the language of collection.ts. @throws AssertionError */
export function assertSupported(definition: Definition, filter: Filter, update?: Update): void {
  assertFilter(definition, filter, 0);
  if (update) assertUpdate(definition, update);
}

/** One operation of an update in bulk: it names exactly one _id. */
export function assertBulk(definition: Definition, filter: Filter, update: Update): void {
  assertSupported(definition, filter, update);
  assertBetween(boundIds(filter)?.length ?? 0, 1, 1, "the number of _id that an update in bulk names");
}

/** The filter of an upsert gives an _id and equalities that make one document. @throws AssertionError */
export function assertUpsert(filter: Filter): void {
  assert(boundIds(filter)?.length === 1 && !("$or" in filter), "an upsert needs equality on _id and no $or");
  const demands = requiredDemands(filter);
  assert(!demands.some(({ operator }) => operator === "$in"), "$in in an upsert does not say which value to insert");
  const paths = demands.filter(({ operator }) => operator === "$eq").map(({ path }) => path);
  assertApart(paths);
}

/**
 * A document that may be stored: an _id, JSON values, Dates in declared fields and nothing else there, scalars in
 * indexed fields (whole numbers up to 2^53), and all fields of each unique index that covers it. @throws AssertionError
 */
export function assertDocument(definition: Definition, document: object): void {
  assert(isFields(document), "a document is an object");
  for (const name of Object.keys(document)) assert(!name.includes("."), `${name}: a field name without dots`);
  assertId(document._id);
  assertValue(definition, document, "", 0);
  assertIndexed(definition, document);
}

/** Checks only the indexed fields of a document that an update has made. @throws AssertionError */
export function assertIndexed({ indexes }: Definition, document: object): void {
  for (const { name, key, unique, partial } of indexes) {
    for (const path of key) assertScalarAt(document, path, name);
    if (!unique || !matches((partial ?? {}) as Filter, document)) continue;
    for (const path of key) assert(valueAt(document, path) != null, `${path} is missing and ${name} is unique`);
  }
}

/** Names and paths that both engines accept, and a TTL on one declared date. @throws AssertionError */
export function assertDefinition({ name, indexes, dates }: CollectionDefinition): void {
  assert(/^[a-z][a-z0-9_]*$/.test(name), `${name}: a collection has a name in snake_case`);
  assert(new Set(indexes.map((index) => index.name)).size === indexes.length, `${name}: two indexes share a name`);
  for (const path of dates) assertPath(path);
  for (const index of indexes) {
    assert(/^idx_[a-zA-Z0-9_]+$/.test(index.name), `${index.name}: an index is named idx_{field}`);
    for (const path of [...index.key, ...Object.keys(index.partial ?? {})]) assertPath(path);
    assert(index.key.length > 0 && index.key.length <= 8, `${index.name}: 1 to 8 fields`);
    const dated = index.key.length === 1 && index.key.every((path) => dates.includes(path));
    assert(index.ttlSeconds === undefined || dated, `${index.name}: a TTL needs one declared date field`);
  }
}

/** A partial index answers only queries that repeat its condition. @throws AssertionError */
export function assertRepeatsPartial({ name, partial }: IndexDefinition, filter: Filter): void {
  for (const [path, wanted] of Object.entries(partial ?? {})) {
    const repeated = requiredDemands(filter).some((demand) => demand.path === path && implies(demand, wanted));
    assert(repeated, `a query by the partial index ${name} must repeat its condition on ${path}`);
  }
}

/** Equality implies existence, except equality with null, which a missing field meets. */
function implies({ operator, wanted: value }: Demand, wanted: Scalar | { readonly $exists: true }): boolean {
  if (isFields(wanted)) return operator === "$exists" ? value === true : operator === "$eq" && value !== null;
  return operator === "$eq" && matches({ value: wanted }, { value });
}

/**
 * MongoDB does not accept _id after the date of a TTL index, so a page in its order would need a sort. @throws
 * AssertionError
 */
export function assertOrders({ name, ttlSeconds }: IndexDefinition): void {
  assert(ttlSeconds === undefined, `${name} expires documents and orders no page`);
}

/** A whole number in bounds. @throws AssertionError */
export function assertBetween(value: number, minimum: number, maximum: number, what: string): void {
  assert(Number.isInteger(value) && value >= minimum && value <= maximum, `${what} is ${minimum} to ${maximum}`);
}

function assertFilter(definition: Definition, filter: Filter, depth: number): void {
  assert(isFields(filter) && depth < depthMax, "a filter is an object, not nested too deep");
  for (const [key, value] of Object.entries(filter)) {
    if (key === "$and" || key === "$or") {
      assert(Array.isArray(value) && value.length > 0, `${key} takes filters`);
      for (const part of value) assertFilter(definition, part, depth + 1);
    } else {
      assertPath(key);
      assertCondition(definition, key, value as Condition);
    }
  }
}

function assertCondition(definition: Definition, path: string, condition: Condition): void {
  if (isFields(condition)) {
    assertPlain(condition, path);
    assert(Object.keys(condition).length > 0, `${path}: a condition without operators`);
  }
  for (const { operator, wanted } of demandsOf(path, condition)) {
    assert(filterOperators.has(operator), `${path}: ${operator} is not in the filter language`);
    if (operator === "$exists") assert(typeof wanted === "boolean", `${path}: $exists is true or false`);
    else if (operator === "$in") {
      assert(Array.isArray(wanted) && wanted.length <= choicesMax, `${path}: $in takes up to ${choicesMax} scalars`);
      for (const choice of wanted) assertScalar(definition, path, choice);
    } else {
      assertScalar(definition, path, wanted);
      assert(wanted !== null || operator === "$eq" || operator === "$ne", `${path}: ${operator} null`);
    }
  }
}

function assertScalar({ dates }: Definition, path: string, value: unknown): void {
  if (path === "_id") assertId(value);
  if (dates.includes(path)) assert(value instanceof Date || value === null, `${path}: a Date, as declared`);
  else assert(!(value instanceof Date), `${path}: a Date that is not declared`);
  assertLeaf(value, path);
}

function assertUpdate(definition: Definition, update: Update): void {
  assert(isFields(update) && Object.keys(update).length > 0, "an update has operators");
  const paths: string[] = [];
  for (const [operator, operands] of Object.entries(update)) {
    assert(updateOperators.has(operator), `${operator} is not in the update language`);
    assert(isFields(operands), `${operator} takes fields`);
    for (const [path, operand] of Object.entries(operands)) {
      assertPath(path);
      assert(path.split(".")[0] !== "_id", "_id does not change");
      assertOperand(definition, operator, path, operand);
      paths.push(path);
    }
  }
  assertApart(paths);
}

function assertOperand(definition: Definition, operator: string, path: string, operand: unknown): void {
  if (operator === "$unset") assert(operand === true, `$unset ${path}: true`);
  else if (operator === "$push") assertPush(definition, path, operand);
  else if (operator === "$set" || operator === "$setOnInsert") assertValue(definition, operand, path, depthOf(path));
  else if (definition.dates.includes(path)) {
    assert(operand instanceof Date && operator !== "$inc", `${operator} ${path}: a Date, as declared`);
    assertLeaf(operand, path);
  } else assert(Number.isFinite(operand), `${operator} ${path}: a finite number`);
}

function assertPush(definition: Definition, path: string, operand: unknown): void {
  assert(isFields(operand), `$push ${path} takes $each`);
  const { $each, $slice, ...others } = operand;
  assert(Array.isArray($each) && Object.keys(others).length === 0, `$push ${path} takes $each and $slice`);
  assert($slice === undefined || Number.isInteger($slice), `$push ${path}: $slice is a whole number`);
  assertValue(definition, $each, path, depthOf(path));
}

/** Two operators never write the same field, nor a field inside the other's. */
function assertApart(paths: readonly string[]): void {
  const all = new Set(paths);
  assert(all.size === paths.length, `one path is in two operators: ${paths.join(", ")}`);
  for (const path of paths) {
    for (let dot = path.indexOf("."); dot > 0; dot = path.indexOf(".", dot + 1)) {
      assert(!all.has(path.slice(0, dot)), `${path} is inside a path of another operator`);
    }
  }
}

/**
 * Paths that were checked before: nearly all are constants of our code, and a flush names the same ones thousands of
 * times.
 */
const knownPaths = new Set<string>();
const knownPathsMax = 1000;

/** No positional steps: "$" and numbers would mean positions in an array. */
function assertPath(path: string): void {
  if (knownPaths.has(path)) return;
  for (const name of path.split(".")) {
    assert(/^[^$"\0][^"\0]*$/.test(name), `${path}: a field path`);
    assert(!/^\d+$/.test(name) && name !== "__proto__", `${path}: a path without positions`);
  }
  if (knownPaths.size < knownPathsMax) knownPaths.add(path);
}

const depthOf = (path: string) => path.split(".").length;

function assertId(value: unknown): void {
  assert(typeof value === "string" && value !== "" && value.length <= 512, "_id is a string of 1 to 512 characters");
  assertLeaf(value, "_id");
}

/** `path` is the path of the field without positions. `undefined` in a field means that the field is left out. */
function assertValue(definition: Definition, value: unknown, path: string, depth: number): void {
  assert(depth <= depthMax, `${path}: nested too deep`);
  if (Array.isArray(value)) {
    for (const element of value) {
      assert(element !== undefined && !Array.isArray(element), `${path}: an array of values, not of arrays`);
      assertValue(definition, element, path, depth + 1);
    }
    return;
  }
  if (value === undefined) return;
  if (definition.dates.includes(path)) assert(value instanceof Date || value === null, `${path}: a Date, as declared`);
  else assert(!(value instanceof Date), `${path}: a Date that is not declared`);
  if (isFields(value)) assertFields(definition, value, path, depth);
  else assertLeaf(value, path);
}

function assertFields(definition: Definition, value: Fields, path: string, depth: number): void {
  assertPlain(value, path);
  for (const [name, field] of Object.entries(value)) {
    assert(name !== "" && !name.startsWith("$") && name !== "__proto__", `${path}: a field named "${name}"`);
    assert(!name.includes("\0"), `${path}: a field name with NUL`);
    assertValue(definition, field, path === "" ? name : `${path}.${name}`, depth + 1);
  }
}

function assertPlain(value: Fields, path: string): void {
  const prototype: unknown = Object.getPrototypeOf(value);
  assert(prototype === Object.prototype || prototype === null, `${path}: a plain object`);
}

function assertLeaf(value: unknown, path: string): void {
  if (value instanceof Date) assert(Number.isFinite(value.getTime()), `${path}: a valid Date`);
  else if (typeof value === "number") assert(Number.isFinite(value), `${path}: a finite number`);
  else if (typeof value === "string") assert(value.isWellFormed(), `${path}: text without lone surrogates`);
  else assert(value === null || typeof value === "boolean", `${path}: ${typeof value} is not a value of a document`);
}

/**
 * One engine would index an array by element, the other as text. Whole numbers beyond 2^53 lose digits when printed, so
 * an index on the text would not find them.
 */
function assertScalarAt(document: object, path: string, index: string): void {
  let value: unknown = document;
  for (const name of path.split(".")) {
    if (value === undefined || value === null) return;
    assert(isFields(value), `${path} crosses what has no fields, and ${index} needs it`);
    value = Object.hasOwn(value, name) ? value[name] : undefined;
  }
  assert(typeof value !== "object" || value === null || value instanceof Date, `${path} is indexed: a scalar`);
  const exact = typeof value !== "number" || !Number.isInteger(value) || Number.isSafeInteger(value);
  assert(exact, `${path} is indexed: no whole number beyond 2^53`);
}
