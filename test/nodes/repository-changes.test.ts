// The repository announces each change that was written, once, and nothing else.
import { expect, test } from "vitest";
import type { NodeId } from "../../src/ids.js";
import type { NodeDocument } from "../../src/nodes/node.js";
import { createNodeRepository } from "../../src/nodes/repository.js";
import { StoreUnavailableError } from "../../src/storage/collection.js";
import { aNodeDocument } from "../support/world/documents.js";
import { openWorld } from "../support/world/world.js";

const nodeId = "node_00000000000000000000000001";
const at = new Date("2026-01-02T00:00:00Z");
const now = () => at;
const event = { type: "updated", reason: "renamed", actor: "test" } as const;

async function announcing(store: Parameters<typeof createNodeRepository>[0]) {
  const repository = await createNodeRepository(store);
  const told: NodeDocument[] = [];
  repository.changes.listen((node) => void told.push(node));
  return { repository, told, versions: () => told.map(({ version }) => version) };
}

test("a node that is made and each change of it are announced as they were written", async () => {
  await using world = await openWorld();
  const { repository, told } = await announcing(world.store);
  await repository.insert(aNodeDocument({ _id: nodeId }));
  await repository.change(nodeId, now, () => ({ set: { name: "other" }, event }));
  await repository.compareAndSet(await repository.get(nodeId), { set: { name: "third" }, event }, at);
  expect(told.map(({ version, name }) => [version, name])).toEqual([
    [1, "node"],
    [2, "other"],
    [3, "third"],
  ]);
  expect(told.at(-1)).toEqual(await repository.get(nodeId));
});

test("what was not written is not announced", async () => {
  await using world = await openWorld();
  const { repository, versions } = await announcing(world.store);
  const first = aNodeDocument({ _id: nodeId });
  await repository.insert(first);
  await expect(repository.insert(first)).rejects.toThrow();
  const refuse = () => {
    throw new Error("refused");
  };
  await expect(repository.change(nodeId, now, refuse)).rejects.toThrow("refused");
  await repository.change(nodeId, now, () => ({ set: { name: "other" }, event }));
  expect(await repository.compareAndSet(first, { set: { name: "late" }, event }, at)).toBeNull();
  expect(versions()).toEqual([1, 2]);
});

test("a change that is there already is announced: the answer to its write may have been lost", async () => {
  await using world = await openWorld();
  const { repository, versions } = await announcing(world.store);
  await repository.insert(aNodeDocument({ _id: nodeId }));
  await repository.change(nodeId, now, () => undefined);
  expect(versions()).toEqual([1, 1]);
});

test("beats, sessions and scores are no changes", async () => {
  await using world = await openWorld();
  const { repository, versions } = await announcing(world.store);
  await repository.insert(aNodeDocument({ _id: nodeId }));
  await repository.openSession(nodeId as NodeId, { epoch: 0, bootId: "boot", replica: "here", at });
  await repository.flush([{ nodeId, epoch: 1, at }]);
  await repository.setPootScore(nodeId, 50, 1);
  expect(versions()).toEqual([1]);
});

test("a change whose answer was lost is announced when the node itself says that it was written", async () => {
  await using world = await openWorld();
  let losing = false;
  const { repository, versions } = await announcing({
    ...world.store,
    engine: world.store.engine,
    collection: async (definition) => {
      const collection = await world.store.collection<never>(definition);
      return {
        ...collection,
        findOneAndUpdate: async (filter, update, options) => {
          const updated = await collection.findOneAndUpdate(filter, update, options);
          if (losing) throw new StoreUnavailableError("the answer was lost");
          return updated;
        },
      };
    },
  } as typeof world.store);
  await repository.insert(aNodeDocument({ _id: nodeId }));
  losing = true;
  await repository.change(nodeId, now, () => ({ set: { name: "other" }, event }));
  expect(versions()).toEqual([1, 2]);
});
