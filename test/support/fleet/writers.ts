// Writers that go on while the service comes and goes, and remember each answer.
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Node, NodeType } from "../../../gen/lucid/node/v1/node_service_pb.js";
import type { LucidClient } from "../../../src/client/client.js";
import { lucidReason } from "../../../src/client/errors.js";
import { within } from "../world/until.js";
import { statusName } from "./look.js";
import type { Replicas } from "./replicas.js";

export interface Told {
  /** Creations that were acknowledged; each under a key of its own, which is the name. */
  readonly created: { readonly name: string; readonly nodeId: string }[];
  /** Each version of a node that an answer named, with the status in that answer. */
  readonly versions: { readonly nodeId: string; readonly version: number; readonly status: string }[];
  /** Calls that had to be repeated. */
  retried: number;
  /** Answers that no outage explains. */
  readonly unexpected: string[];
}

export interface Writers extends AsyncDisposable {
  /** Answers so far. */
  readonly acknowledged: number;
  stop(): Promise<Told>;
}

const writersCount = 3;
const nodesMax = 25;
const paceMs = 60;

/** Each writer creates nodes and changes its own ones, one call after the other; `random` is in [0, 1). */
export function startWriters(fleet: Pick<Replicas, "client">, poolId: string, random: () => number): Writers {
  const told: Told = { created: [], versions: [], retried: 0, unexpected: [] };
  const over = new AbortController();
  const runs = Array.from({ length: writersCount }, (_, place) =>
    write({ client: fleet.client(undefined, 0), told, poolId, random, over: over.signal }, `w${place}`),
  );
  const stop = async () => {
    over.abort();
    await within(Promise.all(runs), "the writers end", 60_000);
    return told;
  };
  return {
    get acknowledged() {
      return told.created.length + told.versions.length;
    },
    stop,
    [Symbol.asyncDispose]: async () => void (await stop()),
  };
}

interface Writer {
  readonly client: LucidClient;
  readonly told: Told;
  readonly poolId: string;
  readonly random: () => number;
  readonly over: AbortSignal;
}

async function write(writer: Writer, name: string): Promise<void> {
  const own: string[] = [];
  const { client, poolId, random, told } = writer;
  const { nodes, pools } = client;
  const pick = () => own[Math.floor(random() * own.length)] ?? "";
  const look = async (nodeId: string) => keep(told, (await attempt(writer, () => nodes.getNode({ nodeId })))?.node);
  for (let turn = 0; !writer.over.aborted; turn++) {
    const chance = random();
    // The pause leaves the database time for the beats, whichever server it is.
    await delay(paceMs);
    if (own.length === 0 || (chance < 0.25 && own.length < nodesMax)) {
      const made = await create(writer, `${name}-${turn}`);
      if (made !== undefined) own.push(made);
      continue;
    }
    const nodeId = pick();
    if (chance < 0.55) {
      const call = random() < 0.5 ? nodes.startNode : nodes.stopNode;
      await attempt<unknown>(writer, () => call({ nodeId }));
      await look(nodeId);
    } else if (chance < 0.75) {
      keep(
        told,
        (await attempt(writer, () => pools.addNodeToPool({ poolId, nodeId, priority: 1 + (turn % 100) })))?.node,
      );
    } else if (chance < 0.85) {
      await attempt(writer, () => pools.removeNodeFromPool({ poolId, nodeId }));
    } else {
      const node = { nodeId, labels: { turn: String(turn) } };
      keep(told, (await attempt(writer, () => nodes.updateNode({ node, updateMask: { paths: ["labels"] } })))?.node);
    }
  }
}

/** Repeats the call until it is answered, and sometimes once more: its key must make only one node. */
async function create(writer: Writer, name: string): Promise<string | undefined> {
  const { client, told, random } = writer;
  const request = { name, nodeType: NodeType.WORKER, idempotencyKey: name };
  const ask = async () => (await attempt(writer, () => client.nodes.createNode(request)))?.node;
  const made = await ask();
  if (made === undefined) return undefined;
  told.created.push({ name, nodeId: made.nodeId });
  keep(told, made);
  const again = random() < 0.3 ? await ask() : made;
  if (again !== undefined && again.nodeId !== made.nodeId) told.unexpected.push(`${name} made ${again.nodeId}, too`);
  return made.nodeId;
}

function keep(told: Told, node: Node | undefined): void {
  if (node === undefined) return;
  const { nodeId, version, status } = node;
  told.versions.push({ nodeId, version: Number(version), status: statusName(status).toLowerCase() });
}

/** The answer; undefined when the service refuses for a reason of its own, or the writers are to stop. */
async function attempt<Answer>(writer: Writer, call: () => Promise<Answer>): Promise<Answer | undefined> {
  const { told, over } = writer;
  while (!over.aborted) {
    try {
      return await call();
    } catch (error) {
      if (isNo(error)) return undefined;
      if (!isOutage(error)) {
        told.unexpected.push(String(error));
        return undefined;
      }
      told.retried++;
      await delay(200);
    }
  }
  return undefined;
}

/** Refusals to expect: the wrong moment (5003), a full pool (5004), or a node that is not a member. */
const isNo = (error: unknown): boolean =>
  ["LUCID_ERR_5003", "LUCID_ERR_5004", "LUCID_ERR_5005"].includes(lucidReason(error) ?? "");

const isOutage = (error: unknown): boolean => {
  const { code } = ConnectError.from(error);
  const broken = [Code.Unavailable, Code.DeadlineExceeded].includes(code);
  // A call whose connection broke carries no reason from the service.
  return broken || (lucidReason(error) === undefined && [Code.Aborted, Code.Canceled, Code.Internal].includes(code));
};
