// WatchNodes: a snapshot, then every change once in the order of the log. A watcher pulls: it reads the log at its own
// pace and nothing is buffered for it, so a slow watcher costs no memory.
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { NodeService, WatchNodesRequest } from "../../../gen/lucid/node/v1/node_service_pb.js";
import type { Caller } from "../../access/caller.js";
import type { Clock } from "../../clock.js";
import type { Paging } from "../../conventions/paging.js";
import { Failure, malformed, tooMany, unauthenticated, unavailable } from "../../failure.js";
import { callerOf, callOf } from "../../rpc/context.js";
import type { Cursor, Page } from "../../storage/collection.js";
import { pages } from "../../storage/pages.js";
import type { NodeDocument } from "../node.js";
import type { NodeRepository } from "../repository.js";
import { nodeToWire } from "../wire.js";
import type { Chunk, Feed } from "./feed.js";
import { type LogEntry, type NodeLog, positionOf } from "./log.js";

type Handler = ServiceImpl<typeof NodeService>["watchNodes"];
type Message = ReturnType<Handler> extends AsyncIterable<infer Sent> ? Sent : never;

export type Watch = ReturnType<typeof createWatch>;

const bookmarkMs = 30_000;
const snapshotPage = 200;
const watchersMax = 1000;
const watchersOfSubjectMax = 50;
/** A reader that takes longer over one message is slow, and then gets only the newest state of each node. */
const slowMs = 5_000;
/** A reader that has not taken a message for this long counts as gone. */
const stalledMs = 30_000;
const tendMs = 5_000;
/** A watch that is to end gives its reader this long to take the message on its way. */
const lingerMs = 5_000;

interface Watched {
  readonly poolId: string;
  readonly nodeIds: ReadonlySet<string>;
  /** What its resume tokens are bound to. */
  readonly binding: string;
}

/** What the log says of one node, before it is made a message. */
interface Step {
  readonly entry: LogEntry;
  readonly inside: boolean;
}

export function createWatch(parts: {
  readonly repository: NodeRepository;
  readonly log: Pick<NodeLog, "head" | "tail" | "after" | "settle">;
  readonly feed: Pick<Feed, "next">;
  readonly paging: Pick<Paging, "seal" | "unseal">;
  readonly clock: Clock;
}) {
  const { repository, log, feed, paging, clock } = parts;
  const draining = new AbortController();
  const watchers = new Set<Watcher>();

  const token = (position: number, { binding }: Watched): string => paging.seal([position], binding);

  /** The position of a token. @throws Failure 4001; OUT_OF_RANGE when the log no longer reaches back that far */
  const resume = async (given: string, watched: Watched): Promise<number> => {
    const position = paging.unseal(given, watched.binding)?.[0];
    if (typeof position !== "number") {
      throw malformed({ field: "resume_token", description: "not a token of a watch with these conditions" });
    }
    const [head, tail] = [await log.head(), await log.tail()];
    if (position >= head - 1 && position <= tail) return position;
    throw new Failure("LUCID_ERR_4001", "The log no longer holds what follows this token: start a watch without it", {
      outOfRange: true,
    });
  };

  /**
   * Sends all nodes, then what the log says of them since the snapshot began, so that everything after snapshot_end is
   * new. Answers the position from which the watch goes on.
   */
  async function* snapshot(watched: Watched): AsyncGenerator<Message, number> {
    const from = await log.tail();
    const versions = new Map<string, number>();
    for await (const nodes of pages((after) => readPage(watched, after))) {
      // A change that a node has not logged yet would come again after snapshot_end.
      await log.settle(nodes);
      for (const node of nodes) {
        versions.set(node._id, node.version);
        yield { event: { case: "upserted", value: nodeToWire(node) } };
      }
    }
    const until = await log.tail();
    let position = from;
    while (position < until) {
      const entries = (await log.after(position, 500)).filter((entry) => positionOf(entry) <= until);
      const nodes = await repository.findMany([...new Set(entries.map(({ node_id }) => node_id))]);
      for (const step of stepsOf(entries, watched)) {
        const known = versions.get(step.entry.node_id);
        if (known !== undefined && known >= step.entry.version) continue;
        const message = messageOf(step, nodes);
        if (message !== undefined && (step.inside || known !== undefined)) yield message;
        if (step.inside) versions.set(step.entry.node_id, step.entry.version);
        else versions.delete(step.entry.node_id);
      }
      position = entries.length === 0 ? until : positionOf(entries.at(-1) as LogEntry);
    }
    yield { resumeToken: token(until, watched), event: { case: "snapshotEnd", value: {} } };
    return until;
  }

  const readPage = async (watched: Watched, after: Cursor | undefined): Promise<Page<NodeDocument>> => {
    const { poolId, nodeIds } = watched;
    if (nodeIds.size > 0) {
      const found = [...(await repository.findMany([...nodeIds])).values()];
      return { items: found.filter((node) => poolId === "" || node.pool_id === poolId) };
    }
    const filter = poolId === "" ? {} : { poolId };
    const order = { order: "created_at", descending: false, skip: 0 } as const;
    return repository.list(filter, { ...order, limit: snapshotPage, ...(after === undefined ? {} : { after }) });
  };

  async function* changes(from: number, watched: Watched, pace: Pace, signal: AbortSignal): AsyncGenerator<Message> {
    let position = from;
    let toldMs = clock.monotonicMs();
    while (!signal.aborted) {
      const chunk = await feed.next(position, Math.max(0, toldMs + bookmarkMs - clock.monotonicMs()), signal);
      if (signal.aborted) return;
      position = chunk?.to ?? position;
      for await (const message of chunk === undefined ? [] : told(chunk, watched, pace)) {
        yield message;
        toldMs = clock.monotonicMs();
      }
      // Also while only other nodes change, because the token would grow too old.
      if (clock.monotonicMs() - toldMs < bookmarkMs) continue;
      yield { resumeToken: token(position, watched), event: { case: "bookmark", value: {} } };
      toldMs = clock.monotonicMs();
    }
  }

  async function* told(chunk: Chunk, watched: Watched, pace: Pace): AsyncGenerator<Message> {
    const steps = pace.isSlow() ? newest(stepsOf(chunk.entries, watched)) : stepsOf(chunk.entries, watched);
    if (steps.length === 0) return;
    const nodes = await chunk.nodes();
    for (const step of steps) {
      const message = messageOf(step, nodes);
      if (message !== undefined) yield { ...message, resumeToken: token(positionOf(step.entry), watched) };
    }
  }

  /** Registers one more watch. @throws Failure 4291, 5031 */
  const enter = ({ subject, jti }: Caller): Watcher => {
    if (draining.signal.aborted) throw unavailable("The service is shutting down", 1000);
    if (watchers.size >= watchersMax) throw unavailable("This replica has reached its limit of watchers", 5000);
    const own = [...watchers].filter((watcher) => watcher.subject === subject);
    if (own.length >= watchersOfSubjectMax) throw tooMany("Too many watches of one subject at once", 5000);
    const watcher = { subject, jti, ended: new AbortController() };
    watchers.add(watcher);
    return watcher;
  };

  const watchNodes = async function* (request: WatchNodesRequest, context: HandlerContext): AsyncGenerator<Message> {
    const caller = callerOf(context);
    const watched = watchedBy(request);
    const watcher = enter(caller);
    const signal = AbortSignal.any([context.signal, draining.signal, watcher.ended.signal]);
    const pace = createPace(clock);
    // While a reader does not read, the generator waits in the middle of a message, so the end must come from outside.
    const over = new AbortController();
    void tend(pace, watcher, caller, signal).then(async (stalled) => {
      if (!stalled) await clock.sleep(lingerMs, over.signal);
      if (!over.signal.aborted) callOf(context).peer.resetStream();
    });
    try {
      const given = request.resumeToken === "" ? undefined : await resume(request.resumeToken, watched);
      const from = given ?? (yield* paced(snapshot(watched), pace, signal));
      if (from !== undefined) yield* paced(changes(from, watched, pace, signal), pace, signal);
      if (watcher.ended.signal.aborted) throw watcher.ended.signal.reason;
      if (draining.signal.aborted) throw unavailable("The service is shutting down", 1000);
      // A deadline that passed: an end without an error would read as "nothing more will ever come".
      if (context.signal.aborted) throw context.signal.reason;
    } finally {
      watchers.delete(watcher);
      over.abort();
      watcher.ended.abort();
    }
  } satisfies Handler;

  /** Looks every 5 s whether the watch may go on. True once its reader has not read for too long. */
  const tend = async (pace: Pace, watcher: Watcher, caller: Caller, signal: AbortSignal): Promise<boolean> => {
    while (!signal.aborted) {
      await clock.sleep(tendMs, signal);
      if (caller.expiresAt <= clock.now()) watcher.ended.abort(unauthenticated("The token has expired"));
      if (pace.isStalled()) return !signal.aborted;
    }
    return false;
  };

  return {
    watchNodes,
    count: (): number => watchers.size,
    /** Ends the watches that were opened with this token. */
    endToken: (jti: string, failure: Failure): void => {
      for (const watcher of watchers) if (watcher.jti === jti) watcher.ended.abort(failure);
    },
    /** Ends every watch; their clients resume on another replica. */
    drain: (): void => draining.abort(),
  };
}

/** An open watch. */
interface Watcher {
  readonly subject: string;
  readonly jti: string;
  readonly ended: AbortController;
}

function watchedBy({ poolId, nodeIds }: WatchNodesRequest): Watched {
  return { poolId, nodeIds: new Set(nodeIds), binding: `watch\n${poolId}\n${[...nodeIds].sort().join(",")}` };
}

/** What the log says of the watched nodes. Without a pool, everything but a deletion is inside. */
function stepsOf(entries: readonly LogEntry[], { poolId, nodeIds }: Watched): Step[] {
  return entries.flatMap((entry): Step[] => {
    if (nodeIds.size > 0 && !nodeIds.has(entry.node_id)) return [];
    const inside = entry.type !== "deleted" && (poolId === "" || entry.pool_id === poolId);
    if (inside) return [{ entry, inside }];
    const left = poolId === "" || entry.left_pool_id === poolId;
    return left ? [{ entry, inside }] : [];
  });
}

/** The last step of each node, in order. */
function newest(steps: readonly Step[]): Step[] {
  const last = new Map(steps.map((step) => [step.entry.node_id, step]));
  return steps.filter((step) => last.get(step.entry.node_id) === step);
}

/** Undefined for a change of a node that is gone: its removal follows. */
function messageOf({ entry, inside }: Step, nodes: ReadonlyMap<string, NodeDocument>): Message | undefined {
  const { node_id: nodeId, status, connectivity, version } = entry;
  if (!inside) return { event: { case: "removed", value: { nodeId } } };
  const node = nodes.get(nodeId);
  if (node === undefined) return undefined;
  return { event: { case: "upserted", value: nodeToWire({ ...node, status, connectivity, version }) } };
}

type Pace = ReturnType<typeof createPace>;

/** Measures how long the reader takes over a message. */
function createPace(clock: Clock) {
  let handedMs: number | undefined;
  let slow = false;
  return {
    hands: (): void => {
      handedMs = clock.monotonicMs();
    },
    taken: (): void => {
      if (clock.monotonicMs() - (handedMs ?? 0) > slowMs) slow = true;
      handedMs = undefined;
    },
    isSlow: (): boolean => slow,
    /** Whether one message has not been taken for too long. */
    isStalled: (): boolean => handedMs !== undefined && clock.monotonicMs() - handedMs >= stalledMs,
  };
}

async function* paced<Answer>(
  messages: AsyncGenerator<Message, Answer>,
  pace: Pace,
  signal: AbortSignal,
): AsyncGenerator<Message, Answer | undefined> {
  for (;;) {
    const { done, value } = await messages.next();
    if (done) return value;
    if (signal.aborted) return undefined;
    pace.hands();
    yield value;
    pace.taken();
  }
}
