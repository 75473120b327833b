// The stored verdicts, each kept for a year, and each node's standing by its counted verdicts.
import { present } from "../present.js";
import type { CollectionDefinition, Cursor, Filter, Page, Store } from "../storage/collection.js";
import { insertUnlessThere } from "../storage/insert.js";
import { updateMarked } from "../storage/marked.js";
import type { StandingDocument } from "./standing.js";
import { type Outcome, type Proof, pastMsMax, proofKey, type ValidationDocument } from "./verdict.js";

const keptSeconds = 365 * 86_400;

export const validationsCollection: CollectionDefinition = {
  name: "poot_validations",
  durability: "durable",
  dates: ["created_at"],
  indexes: [
    { name: "idx_created_at", key: ["created_at"], ttlSeconds: keptSeconds },
    // For pages: an expiry index cannot include the _id that breaks ties.
    { name: "idx_created_at_id", key: ["created_at", "_id"] },
    { name: "idx_node_id", key: ["node_id", "created_at"] },
    { name: "idx_batch_id", key: ["batch_id", "created_at", "place"], partial: { batch_id: { $exists: true } } },
    { name: "idx_outcome", key: ["outcome", "created_at"] },
    { name: "idx_node_output", key: ["node_id", "output_hash", "created_at"] },
    { name: "idx_output_hash", key: ["output_hash", "created_at"] },
    // The referee of nonces: the first insert spends the nonce.
    {
      name: "idx_spent_nonce",
      key: ["node_id", "spent_nonce"],
      unique: true,
      partial: { spent_nonce: { $exists: true } },
    },
    {
      name: "idx_reused_proof",
      key: ["node_id", "reused_proof"],
      unique: true,
      partial: { reused_proof: { $exists: true } },
    },
    { name: "idx_uncounted", key: ["node_id", "created_at", "place"], partial: { uncounted: true } },
  ],
};

export const standingsCollection: CollectionDefinition = {
  name: "poot_scores",
  durability: "durable",
  dates: ["last.calculated_at", "hours.start", "days.start"],
  indexes: [{ name: "idx_mean_score", key: ["mean_score", "valid"], partial: { mean_score: { $exists: true } } }],
};

/** `since` is inclusive, `until` exclusive. */
export interface ValidationFilter {
  readonly nodeId?: string | undefined;
  readonly batchId?: string | undefined;
  readonly outcome?: Outcome | undefined;
  readonly since?: Date | undefined;
  readonly until?: Date | undefined;
}

export type PootRepository = Awaited<ReturnType<typeof createPootRepository>>;

/**
 * Documents per read: with a day of a busy node in each they have some KB, and the process must do other work in
 * between.
 */
const standingsPageMax = 200;
const countMax = 10_000;

export async function createPootRepository(store: Store) {
  const validations = await store.collection<ValidationDocument>(validationsCollection);
  const standings = await store.collection<StandingDocument>(standingsCollection);

  /** Standings of these nodes, at most 1000; nodes without one are left out. */
  const standingsOf = async (nodeIds: readonly string[]): Promise<Map<string, StandingDocument>> => {
    const found = new Map<string, StandingDocument>();
    for (let from = 0; from < nodeIds.length; from += standingsPageMax) {
      const ids = nodeIds.slice(from, from + standingsPageMax);
      const page = await standings.page({ _id: { $in: ids } }, { index: "_id_", limit: standingsPageMax });
      for (const one of page.items) found.set(one._id, one);
    }
    return found;
  };

  return {
    /** Stores a verdict and so spends its nonce. @throws DuplicateKeyError if it is spent, or the proof was reused before */
    insert: (verdict: ValidationDocument): Promise<void> => validations.insertOne(verdict),

    /** Takes at most 1000; answers the positions of the verdicts that `insert` would refuse. The others are stored. */
    insertMany: async (verdicts: readonly ValidationDocument[]): Promise<number[]> =>
      verdicts.length === 0 ? [] : (await validations.insertMany(verdicts)).duplicates,

    /** The verdict that spent the node's nonce. */
    spenderOf: (nodeId: string, nonce: string): Promise<ValidationDocument | null> =>
      validations.findOne({ node_id: nodeId, spent_nonce: nonce }, { index: "idx_spent_nonce" }),

    /** The verdict that this proof got for using a spent nonce. */
    reusedOf: (proof: Proof): Promise<ValidationDocument | null> =>
      validations.findOne({ node_id: proof.nodeId, reused_proof: proofKey(proof) }, { index: "idx_reused_proof" }),

    /** Whether the node has spent any of these nonces, at most 1000. */
    hasSpent: async (nodeId: string, nonces: readonly string[]): Promise<boolean> =>
      (await validations.count(
        { node_id: nodeId, spent_nonce: { $exists: true, $in: nonces } },
        { index: "idx_spent_nonce", max: 1 },
      )) > 0,

    /** Whether the node proved any of these outputs, at most 1000, in the last 24 h. */
    hasProved: async (nodeId: string, hashes: readonly string[], now: Date): Promise<boolean> =>
      (await validations.count(
        { node_id: nodeId, output_hash: { $in: hashes }, created_at: { $gte: dayBefore(now) } },
        { index: "idx_node_output", max: 1 },
      )) > 0,

    /** A verdict of the last 24 h on the same output from another node. */
    sharedBy: (hash: string, nodeId: string, now: Date): Promise<ValidationDocument | null> =>
      validations.findOne(
        { output_hash: hash, created_at: { $gte: dayBefore(now) }, node_id: { $ne: nodeId } },
        { index: "idx_output_hash" },
      ),

    find: (validationId: string): Promise<ValidationDocument | null> => validations.findOne({ _id: validationId }),

    /** Newest first. */
    list: (
      filter: ValidationFilter,
      query: { readonly limit: number; readonly skip: number; readonly after?: Cursor | undefined },
    ): Promise<Page<ValidationDocument>> =>
      validations.page(toFilter(filter), {
        index: indexFor(filter),
        descending: true,
        limit: query.limit,
        skip: query.skip,
        after: query.after,
      }),
    /** Undefined: more than 10,000, more than anybody pages through. */
    countOf: async (filter: ValidationFilter): Promise<number | undefined> => {
      const count = await validations.count(toFilter(filter), { index: indexFor(filter), max: countMax + 1 });
      return count > countMax ? undefined : count;
    },

    /** A node's verdicts that its standing does not include, or that are not marked yet, in their order. */
    uncountedOf: (nodeId: string, limit: number): Promise<Page<ValidationDocument>> =>
      validations.page({ node_id: nodeId, uncounted: true }, { index: "idx_uncounted", limit }),

    /** The same for all nodes, of verdicts made before that time; node by node. */
    uncountedBefore: (before: Date, limit: number, after?: Cursor): Promise<Page<ValidationDocument>> =>
      validations.page({ uncounted: true, created_at: { $lt: before } }, { index: "idx_uncounted", limit, after }),

    /**
     * Whether all of these verdicts, at most 1000, are uncounted now. It asks by a write that changes nothing: after an
     * election at MongoDB a read may answer an older state than an earlier read, but a write never does.
     */
    areUncounted: async (validationIds: readonly string[]): Promise<boolean> => {
      const { matched } = await validations.bulkUpdate(
        validationIds.map((_id) => ({ filter: { _id, uncounted: true }, update: { $set: { uncounted: true } } })),
      );
      return matched === validationIds.length;
    },

    /** Marks these verdicts, at most 1000, as counted. */
    mark: async (validationIds: readonly string[]): Promise<void> => {
      await validations.bulkUpdate(
        validationIds.map((_id) => ({ filter: { _id }, update: { $unset: { uncounted: true } } })),
      );
    },

    standingOf: (nodeId: string): Promise<StandingDocument | null> => standings.findOne({ _id: nodeId }),
    standingsOf,

    /** Standings by mean score, then by valid proofs, then by id, the greatest first; at most 200. */
    best: (limit: number, after?: Cursor): Promise<Page<StandingDocument>> =>
      standings.page({ mean_score: { $exists: true } }, { index: "idx_mean_score", descending: true, limit, after }),

    /**
     * Writes the standing if the stored version is one lower (0: none yet); false: another count was faster.
     * @throws StoreUnavailableError when the outcome is unknown
     */
    replaceStanding: async (next: StandingDocument): Promise<boolean> => {
      if (next.version === 1) return insertUnlessThere(standings, next);
      const { _id, write_id: _, ...fields } = next;
      return (await updateMarked(standings, { _id, version: next.version - 1 }, { $set: fields })) !== null;
    },
  };
}

const dayBefore = (now: Date): Date => new Date(now.getTime() - pastMsMax);

/** The start of the time that is kept. Older verdicts may remain in the store for a while. */
export const keptSince = (now: Date): Date => new Date(now.getTime() - keptSeconds * 1000);

function toFilter({ nodeId, batchId, outcome, since, until }: ValidationFilter): Filter {
  const span = present({ $gte: since, $lt: until });
  const unbounded = since === undefined && until === undefined;
  return present({ node_id: nodeId, batch_id: batchId, outcome, created_at: unbounded ? undefined : span });
}

/** The index that narrows most and gives the order; the rest of the filter is checked on what it finds. */
function indexFor({ nodeId, batchId, outcome }: ValidationFilter): string {
  if (batchId !== undefined) return "idx_batch_id";
  if (nodeId !== undefined) return "idx_node_id";
  return outcome === undefined ? "idx_created_at_id" : "idx_outcome";
}
