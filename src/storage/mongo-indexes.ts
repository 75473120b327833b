// The indexes of a collection at the server: those missing are built, those defined otherwise are built anew, and those
// that nobody here has defined are left alone.
import { isDeepStrictEqual } from "node:util";
import { type Collection, type CreateIndexesOptions, MongoNetworkTimeoutError, MongoServerError } from "mongodb";
import type { CollectionDefinition, IndexDefinition } from "./collection.js";
import { indexConflictCodes } from "./mongo-errors.js";
import { keyOf, type Stored } from "./mongo-query.js";

export interface IndexLog {
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

const indexNotFound = 27;
const namespaceNotFound = 26;
/** With the limit of one answer (5 s) some ten minutes. */
const attemptsMax = 120;

/**
 * @throws the server's error when an index cannot be built, of code 11000 where documents with the same key are there
 */
export async function ensureIndexes(
  collection: Collection<Stored>,
  definition: CollectionDefinition,
  log: IndexLog | undefined,
): Promise<void> {
  if (definition.indexes.length === 0) return;
  try {
    await build(collection, definition.indexes);
  } catch (error) {
    if (!isConflict(error)) throw error;
    for (const index of definition.indexes) await rebuild(collection, index, log);
  }
}

const isConflict = (error: unknown) => error instanceof MongoServerError && indexConflictCodes.has(error.code);

/**
 * One command, which answers at once where all are there. A build goes on at the server when its client gives up waiting,
 * and asking again waits for the same build, so that a large collection does not need an answer of unbounded patience.
 */
async function build(collection: Collection<Stored>, indexes: readonly IndexDefinition[]): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await collection.createIndexes(indexes.map(specification));
      return;
    } catch (error) {
      if (!(error instanceof MongoNetworkTimeoutError) || attempt === attemptsMax) throw error;
    }
  }
}

function specification(index: IndexDefinition) {
  return {
    name: index.name,
    key: Object.fromEntries(keyOf(index).map((path): [string, 1] => [path, 1])),
    ...(index.unique && { unique: true }),
    ...(index.partial && { partialFilterExpression: index.partial }),
    ...(index.ttlSeconds !== undefined && { expireAfterSeconds: index.ttlSeconds }),
  } satisfies CreateIndexesOptions & { key: Record<string, 1> };
}

/** Whoever else starts now does the same: that one has dropped or built it first is as good. */
async function rebuild(
  collection: Collection<Stored>,
  index: IndexDefinition,
  log: IndexLog | undefined,
): Promise<void> {
  try {
    await build(collection, [index]);
  } catch (error) {
    if (!isConflict(error)) throw error;
    for (const name of await obstaclesTo(collection, index)) {
      log?.info(`Index ${name} of ${collection.collectionName} has another definition and is built anew`, {
        index: name,
      });
      await drop(collection, name);
    }
    await build(collection, [index]);
  }
}

/** One of the same name, or over the same key and condition, which the server does not take twice. */
async function obstaclesTo(collection: Collection<Stored>, index: IndexDefinition): Promise<string[]> {
  const wanted = specification(index);
  const present = await collection.listIndexes().toArray();
  return present
    .filter(
      ({ name, key, partialFilterExpression }) =>
        name === index.name ||
        (isDeepStrictEqual(Object.entries(key), Object.entries(wanted.key)) &&
          isDeepStrictEqual(partialFilterExpression, wanted.partialFilterExpression)),
    )
    .map(({ name }) => String(name));
}

async function drop(collection: Collection<Stored>, name: string): Promise<void> {
  try {
    await collection.dropIndex(name);
  } catch (error) {
    const isGone =
      error instanceof MongoServerError && (error.code === indexNotFound || error.code === namespaceNotFound);
    if (!isGone) throw error;
  }
}
