// The indexes of a collection at the server: those missing are built, and none is ever dropped. Replicas of two versions
// serve from one database during an upgrade, and each hints its own indexes and trusts its own unique ones. So a definition
// that changes takes a new name (idx_name_v2) with a key that no released index has; both stand side by side until no
// replica of the older version runs, and the old one is then dropped by hand. test/storage/indexes.test.ts holds that rule.
import { isDeepStrictEqual } from "node:util";
import { type Collection, type CreateIndexesOptions, MongoServerError } from "mongodb";
import { type CollectionDefinition, type IndexDefinition, StoreRefusedError } from "../collection.js";
import { indexConflictCodes } from "./errors.js";
import { keyOf, type Stored } from "./query.js";

/** How long a build is waited for; asking again waits for the same one. */
const buildMs = 600_000;

/**
 * @throws StoreRefusedError when an index of the same name or key is defined otherwise; the server's error when an index
 * cannot be built, of code 11000 where documents with the same key are there
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
 * One command, which answers at once where all are there. Its connection is kept until the answer comes, beyond the limit
 * of other operations: a server may abort the build when its client hangs up, and each further attempt would begin it
 * again.
 */
async function build(collection: Collection<Stored>, indexes: readonly IndexDefinition[]): Promise<void> {
  // The driver takes a limit of the socket with every command, which its types leave out.
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

/** Undefined where what stood in the way is gone by now. */
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
