// The indexes of a collection at the server. Missing ones are built; none is ever dropped. During an upgrade, replicas
// of two versions serve from one database; each hints its own indexes and relies on its own unique ones. So a changed
// definition takes a new name (idx_name_v2) and a key that no released index has. Both indexes exist until no replica
// of the older version runs; then the old one is dropped by hand. test/storage/indexes.test.ts holds that rule.
import { isDeepStrictEqual } from "node:util";
import { type Collection, type CreateIndexesOptions, MongoServerError } from "mongodb";
import { type CollectionDefinition, type IndexDefinition, StoreRefusedError } from "../collection.js";
import { indexConflictCodes } from "./errors.js";
import { keyOf, type Stored } from "./query.js";

/** How long a build may take. Another call waits for the same build. */
const buildMs = 600_000;

/**
 * @throws StoreRefusedError when an index of the same name or key has another definition; the server's error when an
 * index cannot be built, with code 11000 if stored documents share a key
 */
export async function ensureIndexes(collection: Collection<Stored>, definition: CollectionDefinition): Promise<void> {
  if (definition.indexes.length === 0) return;
  try {
    await build(collection, definition.indexes);
  } catch (error) {
    if (!isConflict(error)) throw error;
    throw (await conflictOf(collection, definition.indexes, error)) ?? error;
  }
}

const isConflict = (error: unknown) => error instanceof MongoServerError && indexConflictCodes.has(error.code);

/**
 * Sends one command, which returns at once if all indexes exist. Its connection stays open until the answer, beyond the
 * limit of other operations: a server may abort the build when its client hangs up, and each retry would start the
 * build over.
 */
async function build(collection: Collection<Stored>, indexes: readonly IndexDefinition[]): Promise<void> {
  // The driver takes a socket limit with every command; its types leave that out.
  const options: CreateIndexesOptions & { readonly socketTimeoutMS: number } = { socketTimeoutMS: buildMs };
  await collection.createIndexes(indexes.map(specification), options);
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

/** Undefined if the conflict is already gone. */
async function conflictOf(
  collection: Collection<Stored>,
  indexes: readonly IndexDefinition[],
  cause: unknown,
): Promise<StoreRefusedError | undefined> {
  const present = await collection.listIndexes().toArray();
  for (const index of indexes) {
    const wanted = specification(index);
    const named = present.find(({ name }) => name === wanted.name);
    if (named !== undefined && !isSame(named, wanted)) {
      return new StoreRefusedError(
        `Index ${index.name} of ${collection.collectionName} is defined otherwise at the server, where replicas of another ` +
          "version may rely on it: a definition that changes needs a new name. Run the version that made it, or drop it by " +
          "hand when no replica runs",
        { cause },
      );
    }
    const rival = named === undefined ? present.find((one) => hasSameKey(one, wanted)) : undefined;
    if (rival !== undefined) {
      return new StoreRefusedError(
        `Index ${rival.name} of ${collection.collectionName} has the key of ${index.name}, and the server takes a key once: ` +
          `drop ${rival.name} by hand when no replica uses it`,
        { cause },
      );
    }
  }
  return undefined;
}

type Specification = ReturnType<typeof specification>;
type Present = Readonly<Record<string, unknown>>;

const hasSameKey = ({ key, partialFilterExpression }: Present, wanted: Specification): boolean =>
  isDeepStrictEqual(Object.entries(key as object), Object.entries(wanted.key)) &&
  isDeepStrictEqual(partialFilterExpression, wanted.partialFilterExpression);

const isSame = (present: Present, wanted: Specification): boolean =>
  hasSameKey(present, wanted) &&
  (present.unique === true) === (wanted.unique === true) &&
  present.expireAfterSeconds === wanted.expireAfterSeconds;
