// A write whose answer was lost may have opened a session: when the replica adopts it, and when a doubt is over.
import { expect, test } from "vitest";
import type { NodeDocument } from "../../../src/nodes/node.js";
import { createDoubts } from "../../../src/nodes/sessions/doubts.js";
import { StoreUnavailableError } from "../../../src/storage/collection.js";
import { aNodeDocument } from "../../support/world/documents.js";

const nodeId = "node_00000000000000000000000001";

/** Doubts of the replica "here" over these documents. A test may change them; `reading` runs while they are read. */
function someDoubts(documents: NodeDocument[], known: Readonly<Record<string, number>> = {}) {
  const asked: (readonly string[])[] = [];
  const adopted: string[] = [];
  const around = { reading: async (): Promise<void> => undefined };
  const doubts = createDoubts({
    repository: {
      findMany: async (ids) => {
        asked.push(ids);
        const found = documents.filter(({ _id }) => ids.includes(_id)).map((node) => [node._id, node] as const);
        await around.reading();
        return new Map(found);
      },
    },
    replicaId: "here",
    epochOf: (id) => known[id],
    adopt: ({ _id, session_epoch }) => void adopted.push(`${_id} ${session_epoch}`),
  });
  return { doubts, asked, adopted, around };
}

const opened = (session_epoch: number, session_replica?: string): NodeDocument =>
  aNodeDocument({ _id: nodeId, session_epoch, ...(session_replica === undefined ? {} : { session_replica }) });

test.each([
  ["opened here and unknown here", "taken in", opened(3, "here"), undefined],
  ["opened here, where an older one is known,", "taken in", opened(3, "here"), 2],
  ["known here already", "left alone", opened(3, "here"), 3],
  ["older than what is known here", "left alone", opened(3, "here"), 4],
  ["opened on another replica", "left alone", opened(3, "there"), undefined],
  ["heard by unary calls", "left alone", opened(3, "unary"), undefined],
  ["never opened", "left alone", opened(0), undefined],
  ["of a node that is gone", "left alone", undefined, undefined],
])("a session %s is %s", async (_, outcome, node, epoch) => {
  const known = epoch === undefined ? {} : { [nodeId]: epoch };
  const { doubts, adopted } = someDoubts(node === undefined ? [] : [node], known);
  doubts.note(nodeId);
  await doubts.settle();
  expect(adopted).toEqual(outcome === "taken in" ? [`${nodeId} 3`] : []);
});

test("a doubt is looked up once, however often it was noted; without one the store is not asked", async () => {
  const { doubts, asked, adopted } = someDoubts([opened(3, "here")]);
  await doubts.settle();
  expect(asked).toEqual([]);
  doubts.note(nodeId);
  doubts.note(nodeId);
  await doubts.settle();
  await doubts.settle();
  expect(asked).toEqual([[nodeId]]);
  expect(adopted).toHaveLength(1);
});

test("a doubt outlasts a store that is away", async () => {
  const { doubts, adopted, around } = someDoubts([opened(3, "here")]);
  doubts.note(nodeId);
  around.reading = async () => {
    throw new StoreUnavailableError("away");
  };
  await expect(doubts.settle()).rejects.toThrow("away");
  around.reading = async () => undefined;
  await doubts.settle();
  expect(adopted).toEqual([`${nodeId} 3`]);
});

test("a doubt that is noted while it is looked up is not settled by what was read before it", async () => {
  const documents = [opened(2, "there")];
  const { doubts, adopted, around } = someDoubts(documents);
  doubts.note(nodeId);
  around.reading = async () => {
    documents[0] = opened(3, "here");
    doubts.note(nodeId);
  };
  await doubts.settle();
  expect(adopted).toEqual([]);
  around.reading = async () => undefined;
  await doubts.settle();
  expect(adopted).toEqual([`${nodeId} 3`]);
});

test("many doubts are looked up 500 at a time, and none is left out", async () => {
  const ids = Array.from({ length: 1_001 }, (_, place) => `node_${place}`);
  const { doubts, asked } = someDoubts([]);
  for (const id of ids) doubts.note(id);
  for (let turns = 0; turns < 4; turns++) await doubts.settle();
  expect(asked.map(({ length }) => length)).toEqual([500, 500, 1]);
  expect(new Set(asked.flat())).toEqual(new Set(ids));
});
