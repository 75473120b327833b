// What a query plan at a MongoDB server must not hold.
import type { Document, MongoClient } from "mongodb";
import type { MongoUnderTest } from "./mongo.js";

const queries = new Set(["find", "aggregate", "findAndModify", "update", "delete"]);

/** Keeps commands that a store sends: the first of each shape that is not in `seen` yet. */
export function collectStatements(seen = new Set<string>()) {
  const commands: Document[] = [];
  const onCommand = (command: Document): void => {
    if (!queries.has(Object.keys(command)[0] ?? "") || seen.has(shapeOf(command))) return;
    seen.add(shapeOf(command));
    commands.push(command);
  };
  return { commands, onCommand };
}

/** The kind of statement, without its values: other values do not make another plan. */
function shapeOf(command: Document): string {
  const { filter, query, pipeline, hint, sort, updates, deletes } = command;
  const statement = { filter, query, pipeline, hint, sort, updates, deletes };
  const plain = (_: string, value: unknown) =>
    ["string", "number", "boolean"].includes(typeof value) && value !== 1 && value !== -1 ? "?" : value;
  return `${Object.keys(command)[0]} ${hint} ${JSON.stringify(statement, plain)}`;
}

/** The queries in a command, as the server explains them. A surrogate explains an update as the query in it only. */
function explainable(command: Document, isSurrogate: boolean): Document[] {
  const { find, filter, hint, sort, skip, limit, aggregate, pipeline, findAndModify, query } = command;
  const hinted = (given: unknown) => (given === undefined ? {} : { hint: given });
  if (find) return [{ find, filter, skip, limit, ...hinted(hint), ...(sort && { sort }) }];
  if (aggregate) return [{ aggregate, pipeline, cursor: {}, ...hinted(hint) }];
  if (findAndModify) return [{ findAndModify, query, update: { $set: { x: 1 } }, ...hinted(hint) }];
  const collection = command.update ?? command.delete;
  const inside: Document[] = command.updates ?? command.deletes ?? [];
  if (isSurrogate) return inside.map((one) => ({ find: collection, filter: one.q, ...hinted(one.hint) }));
  const kind = command.update ? ["update", "updates"] : ["delete", "deletes"];
  return inside.map((one) => ({ [kind[0] ?? ""]: collection, [kind[1] ?? ""]: [one] }));
}

/** The stages of the winning plan, wherever a server puts them. */
function stagesOf(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([name, inner]) => {
    if (name === "rejectedPlans") return [];
    return name === "stage" && typeof inner === "string" ? [inner] : stagesOf(inner);
  });
}

const byIndex = /^(IXSCAN|IDHACK|EXPRESS\w*|COUNT_SCAN|EOF)$/;

/** What a statement does that an index should spare it: a sort, or a scan of the collection. */
export async function planFaults(mongo: MongoUnderTest, client: MongoClient, database: string, command: Document) {
  const faults: string[] = [];
  for (const statement of explainable(command, mongo.isSurrogate)) {
    const explained = await client.db(database).command({ explain: statement, verbosity: "queryPlanner" });
    const stages = stagesOf(explained);
    const sorts = !mongo.isSurrogate && stages.includes("SORT");
    const isFound = stages.some((stage) => byIndex.test(stage)) && !stages.includes("COLLSCAN");
    if (sorts || !isFound) faults.push(`${stages.join(" ")}: ${JSON.stringify(statement)}`);
  }
  const collection = client.db(database).collection(command.find ?? "none");
  const key = command.sort && (await collection.indexes()).find(({ name }) => name === command.hint)?.key;
  if (command.sort && !isOrderOf(key, command.sort)) faults.push(`a sort of its own: ${JSON.stringify(command)}`);
  return faults;
}

/** An index read forwards or backwards gives this very order. */
function isOrderOf(key: Document | undefined, sort: Document | Map<string, number>): boolean {
  const wanted = sort instanceof Map ? [...sort] : Object.entries(sort);
  const given = Object.entries(key ?? {});
  const direction = wanted[0]?.[1];
  return JSON.stringify(given.map(([path]) => [path, direction])) === JSON.stringify(wanted);
}
