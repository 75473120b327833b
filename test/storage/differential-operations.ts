// Random operations on a store. Ids, fields and values come from small sets, so that operations often meet.
// What the port leaves open is left out: which of several matches findOne takes, and updates that put something other
// than a scalar into an indexed field.
import type {
  Collection,
  CollectionDefinition,
  Condition,
  Cursor,
  Filter,
  Scalar,
  StoredDocument,
  Update,
} from "../../src/storage/collection.js";

export type Made = StoredDocument & Record<string, unknown>;

export interface Operation {
  readonly what: string;
  readonly given: readonly unknown[];
  run(all: Collection<Made>): Promise<unknown>;
}

export const universe: CollectionDefinition = {
  name: "things",
  durability: "relaxed",
  dates: ["seen", "changes.at"],
  indexes: [
    { name: "idx_kind_rank", key: ["kind", "rank"] },
    { name: "idx_kind_seen_rank", key: ["kind", "seen", "rank"] },
    { name: "idx_rank", key: ["rank"] },
    { name: "idx_inner_size", key: ["inner.size"] },
    { name: "idx_code", key: ["code"], unique: true, partial: { code: { $exists: true } } },
    { name: "idx_rank_live", key: ["rank"], partial: { live: true } },
  ],
};

export function createGenerator(random: () => number) {
  const below = (limit: number) => Math.floor(random() * limit);
  const chance = (part: number) => random() < part;
  const pick = <Item>(items: readonly Item[]): Item => items[below(items.length)] as Item;
  const several = <Item>(count: number, make: () => Item): Item[] => Array.from({ length: count }, make);
  const some = <Item>(items: readonly Item[], part: number): Item[] => items.filter(() => chance(part));

  const ids = [..."abcdefghijklmnop", "Z", "\uffee", "𝒳", "a b", "é"];
  const id = () => pick(ids);
  const date = () => new Date(Date.UTC(2026, 0, 1 + below(5), 0, 0, 0, below(3)));
  const rank = () => pick([0, 1, 2, 3, -1, 1.5, -2.25, 2 ** 40, 2 ** 31]);
  const kind = () => pick(["a", "b", "c", "", "𝒳", "\uffee"]);
  const code = () => `x${below(12)}`;
  const scalar = (): Scalar => pick<Scalar>([null, true, false, 0, 1, 2, -1, 1.5, "", "1", "a", "𝒳", 2 ** 53]);
  const element = (): unknown => (chance(0.8) ? scalar() : { y: scalar(), z: scalar() });
  const anything = (): unknown => {
    if (chance(0.6)) return scalar();
    if (chance(0.5)) return several(below(4), element);
    return { y: chance(0.7) ? scalar() : several(below(3), scalar), z: scalar() };
  };
  const changes = () => several(below(3), () => ({ at: date(), to: kind() }));
  const inner = () => ({ ...(chance(0.7) && { size: pick([rank(), null]) }), ...(chance(0.5) && { label: kind() }) });

  const document = (): Made => ({
    _id: id(),
    ...(chance(0.8) && { kind: chance(0.9) ? kind() : null }),
    ...(chance(0.8) && { rank: chance(0.9) ? rank() : null }),
    ...(chance(0.6) && { seen: chance(0.8) ? date() : null }),
    ...(chance(0.4) && { code: code() }),
    ...(chance(0.5) && { live: chance(0.6) }),
    ...(chance(0.7) && { x: anything() }),
    ...(chance(0.4) && { words: several(below(4), kind) }),
    ...(chance(0.4) && { inner: inner() }),
    ...(chance(0.3) && { changes: changes() }),
    ...(chance(0.1) && { left: undefined }),
  });

  /** Values for a condition on the path. */
  const valuesOf: Record<string, () => Scalar> = {
    kind,
    rank,
    seen: date,
    code,
    live: () => chance(0.5),
    x: scalar,
    "x.y": scalar,
    "x.z": scalar,
    words: kind,
    "inner.size": rank,
    "inner.label": kind,
    "changes.at": date,
    "changes.to": kind,
    nowhere: scalar,
  };
  const paths = Object.keys(valuesOf);
  const condition = (path: string): Condition => {
    const value = valuesOf[path] ?? scalar;
    const bound = (): Scalar => value() ?? 1;
    return pick<() => Condition>([
      () => (chance(0.15) ? null : value()),
      () => ({ $eq: chance(0.15) ? null : value() }),
      () => ({ $ne: chance(0.3) ? null : value() }),
      () => ({ [pick(["$gt", "$gte", "$lt", "$lte"])]: bound() }),
      () => ({ [pick(["$gt", "$gte"])]: bound(), [pick(["$lt", "$lte"])]: bound() }),
      () => ({ $in: several(below(4), () => (chance(0.15) ? null : value())) }),
      () => ({ $exists: chance(0.5) }),
      () => ({ $exists: true, $ne: value() }),
    ])();
  };
  const conditions = (count: number): Filter =>
    Object.fromEntries(
      several(count, () => {
        const path = pick(paths);
        return [path, condition(path)];
      }),
    );
  const filter = (depth = 0): Filter => ({
    ...conditions(below(3)),
    ...(depth < 2 && chance(0.15) && { $or: several(1 + below(3), () => filter(depth + 1)) }),
    ...(depth < 2 && chance(0.1) && { $and: several(1 + below(2), () => filter(depth + 1)) }),
  });

  /** An index, and what a filter must hold so that the index can answer it. */
  const indexed = (): { index: string; needs: Filter } =>
    pick([
      () => ({ index: "_id_", needs: chance(0.3) ? { _id: { $gte: id() } } : {} }),
      () => ({ index: "idx_rank", needs: chance(0.5) ? { rank: condition("rank") } : {} }),
      () => ({ index: "idx_inner_size", needs: chance(0.5) ? { "inner.size": condition("inner.size") } : {} }),
      () => ({ index: "idx_kind_rank", needs: chance(0.7) ? { kind: chance(0.8) ? kind() : null } : {} }),
      () => ({ index: "idx_kind_seen_rank", needs: chance(0.7) ? { kind: kind(), seen: condition("seen") } : {} }),
      () => ({ index: "idx_code", needs: { code: { $exists: true } } as Filter }),
      () => ({ index: "idx_rank_live", needs: { live: true } as Filter }),
    ])();
  const query = (): { filter: Filter; index: string } => {
    const { index, needs } = indexed();
    return { index, filter: chance(0.1) ? filter() : { ...(chance(0.6) ? filter() : {}), ...needs } };
  };

  const sets: Record<string, () => unknown> = {
    kind,
    rank,
    seen: date,
    code,
    live: () => chance(0.6),
    x: anything,
    "x.y": scalar,
    "x.y.w": scalar,
    words: () => several(below(3), kind),
    "inner.size": rank,
    "inner.label": kind,
    changes,
    left: () => undefined,
  };
  const operands: Record<string, (path: string) => unknown> = {
    $set: (path) => (sets[path] ?? scalar)(),
    $setOnInsert: (path) => (sets[path] ?? scalar)(),
    $unset: () => true,
    $inc: () => pick([1, 2, -1, 0.5, 0]),
    $min: (path) => (path === "seen" ? date() : pick([0, 1, -3, 2.5])),
    $max: (path) => (path === "seen" ? date() : pick([0, 1, -3, 2.5])),
    $push: (path) => ({
      $each: path === "changes" ? changes() : several(below(3), path === "words" ? kind : element),
      ...(chance(0.5) && { $slice: below(6) - 3 }),
    }),
  };
  const pathsOf: Record<string, readonly string[]> = {
    $set: Object.keys(sets),
    $setOnInsert: Object.keys(sets),
    $unset: ["kind", "rank", "seen", "code", "live", "x", "x.y", "words", "words.y", "inner.size", "nowhere.y"],
    $inc: ["rank", "x", "x.y", "inner.size", "n", "n"],
    $min: ["rank", "seen", "x", "x.z", "n"],
    $max: ["rank", "seen", "x", "x.z", "n"],
    $push: ["words", "x", "x.y", "changes", "list"],
  };
  const update = (): Update => {
    const operators = some(Object.keys(operands), 0.3);
    if (operators.length === 0) operators.push("$set");
    const taken = new Set<string>();
    const made = operators.map((operator): [string, Record<string, unknown>] => {
      const free = some(pathsOf[operator] ?? [], 0.2).filter((path) => !taken.has(path) || chance(0.02));
      for (const path of free) taken.add(path);
      return [operator, Object.fromEntries(free.map((path) => [path, operands[operator]?.(path)]))];
    });
    return Object.fromEntries(made) as Update;
  };
  /** A filter by _id, now and then with further conditions. */
  const one = (): Filter => ({ ...(chance(0.3) ? conditions(1) : {}), _id: id() });
  /** A filter for an upsert; in most cases an upsert may start from it. */
  const upserted = (): Filter => ({
    ...(chance(0.2) && { n: below(3) }),
    ...(chance(0.1) && { "inner.label": { $eq: kind() } }),
    ...(chance(0.1) && { rank: { $gt: 0 } }),
    ...(chance(0.05) && { $or: [{ x: 1 }] }),
    _id: id(),
  });

  const make = (
    what: string,
    given: readonly unknown[],
    run: (all: Collection<Made>) => Promise<unknown>,
  ): Operation => ({ what, given, run });
  const change = (what: "updateOne" | "findOneAndUpdate"): Operation => {
    const upsert = chance(0.35);
    const byCode = !upsert && chance(0.2);
    const wanted = upsert ? upserted() : byCode ? { ...conditions(below(2)), code: code() } : one();
    const options = {
      ...(upsert && { upsert }),
      ...(byCode && { index: "idx_code" }),
      ...(what === "findOneAndUpdate" && { returnDocument: pick(["after", "before"] as const) }),
    };
    const changed = update();
    return make(what, [wanted, changed, options], (all) => all[what](wanted, changed, options));
  };
  const makers: readonly [weight: number, make: () => Operation][] = [
    [8, () => withOne("insertOne", document(), (all, given) => all.insertOne(given))],
    [
      4,
      () => {
        const [documents, options] = [several(below(6), document), { ordered: chance(0.4) }];
        return make("insertMany", [documents, options], (all) => all.insertMany(documents, options));
      },
    ],
    [6, () => withOne("findOne", one(), (all, given) => all.findOne(given))],
    [3, () => withOne("findOne by code", { code: code() }, (all, given) => all.findOne(given, { index: "idx_code" }))],
    [
      3,
      () => {
        const { filter, index } = query();
        // The port leaves open which of several is found. Both engines must agree on whether there is any.
        return make("findOne of many", [filter, index], async (all) => (await all.findOne(filter, { index })) !== null);
      },
    ],
    [6, pages],
    [
      4,
      () => {
        const { filter, index } = query();
        const options = { index, limit: 1 + below(20), skip: below(8), descending: chance(0.5) };
        return make("page", [filter, options], (all) => all.page(filter, options));
      },
    ],
    [
      6,
      () => {
        const { filter, index } = query();
        const options = { index, ...(chance(0.3) && { max: below(6) }) };
        return make("count", [filter, options], (all) => all.count(filter, options));
      },
    ],
    [3, () => withOne("count by _id", { _id: { $in: several(below(5), id) } }, (all, given) => all.count(given))],
    [16, () => change("updateOne")],
    [16, () => change("findOneAndUpdate")],
    [
      8,
      () => {
        // A batch is unordered: except for duplicates, no operation may depend on another one of the batch.
        const operations = some(ids, 0.2).map((_id) => {
          const { $or, ...start } = upserted();
          return { filter: { ...start, _id } as Filter, update: update(), ...(chance(0.4) && { upsert: true }) };
        });
        return make("bulkUpdate", [operations], (all) => all.bulkUpdate(operations));
      },
    ],
    [
      2,
      () => {
        const { filter, index } = query();
        const limit = 1 + below(4);
        // The port leaves open which documents are deleted first, so all of them are deleted in the end.
        return make("deleteMany", [filter, index, limit], async (all) => {
          const first = await all.deleteMany(filter, { index, limit });
          return [first, await all.deleteMany(filter, { index, limit: 1000 })];
        });
      },
    ],
    [3, () => withOne("deleteMany by _id", one(), (all, given) => all.deleteMany(given, { limit: 1 }))],
    [2, outOfBounds],
  ];

  function withOne<Given>(
    what: string,
    given: Given,
    run: (all: Collection<Made>, given: Given) => Promise<unknown>,
  ): Operation {
    return make(what, [given], (all) => run(all, given));
  }

  /** A whole walk, cursor by cursor. */
  function pages(): Operation {
    const { filter, index } = query();
    const options = { index, limit: pick([1, 2, 3, 4, 5, 7, 11, 19]), descending: chance(0.5) };
    return make("pages", [filter, options], async (all) => {
      const answers: unknown[] = [];
      let after: Cursor | undefined;
      do {
        const page = await all.page(filter, { ...options, ...(after && { after }) });
        answers.push(page);
        after = page.next && (JSON.parse(JSON.stringify(page.next)) as Cursor);
      } while (after);
      return answers;
    });
  }

  function outOfBounds(): Operation {
    const wrong: readonly [string, (all: Collection<Made>) => Promise<unknown>][] = [
      ["no index", (all) => all.findOne({ kind: "a" })],
      ["an unknown index", (all) => all.count({}, { index: "idx_nowhere" })],
      ["a partial index without its condition", (all) => all.page({}, { index: "idx_code", limit: 1 })],
      ["no limit", (all) => all.page({}, { index: "_id_", limit: 0 })],
      ["a cursor of another index", (all) => all.page({}, { index: "idx_rank", limit: 1, after: ["x"] })],
      [
        "an upsert without _id",
        (all) => all.updateOne({ code: "x1" }, { $set: { x: 1 } }, { index: "idx_code", upsert: true }),
      ],
      ["an undeclared Date", (all) => all.updateOne({ _id: "a" }, { $set: { x: date() } })],
      ["an array in an indexed field", (all) => all.insertOne({ _id: "a", rank: [1] })],
      ["bulk without _id", (all) => all.bulkUpdate([{ filter: { code: "x1" }, update: { $set: { x: 1 } } }])],
    ];
    const [what, run] = pick(wrong);
    return make(what, [], run);
  }

  const total = makers.reduce((sum, [weight]) => sum + weight, 0);
  return {
    next: (): Operation => {
      let place = random() * total;
      for (const [weight, maker] of makers) {
        place -= weight;
        if (place < 0) return maker();
      }
      return outOfBounds();
    },
  };
}
