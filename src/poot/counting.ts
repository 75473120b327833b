// Counts verdicts into standings, each exactly once, whatever crashes in between.
//
// A count takes four steps. It reads the node's standing. THEN it finds the node's uncounted verdicts and makes sure of
// them by a write that changes nothing. It writes the standing with the new verdicts in it, by compare-and-set on its
// version, with their ids in `taken`. It marks the verdicts as counted.
//
// Nobody writes the standing's next version before everything in `taken` is marked. So a verdict that is uncounted
// after a standing was read is either in that standing's `taken`, and then is only marked, or in no version up to that
// one: all earlier verdicts were marked before that version was written. "Uncounted" is decided by the write, not by
// the read that found the verdict: after an election a majority read at MongoDB may answer an older state than the read
// before it (its primary learns late what is committed), but a write meets the document as the primary has it, with all
// that was committed before its term. A standing that was read too old loses its compare-and-set.
//
// A counter that was paused in between, for however long, finds its version gone and begins again; what it still marks
// is already counted. So nothing is counted twice. Nothing is lost: a verdict stays uncounted until a standing that
// includes it is written, and the leader looks for uncounted verdicts.
import type { Clock } from "../clock.js";
import type { Leadership } from "../replicas/lease.js";
import { pages } from "../storage/pages.js";
import { eachOf, type Next, outage, turns } from "../task.js";
import type { Log } from "../telemetry/log.js";
import type { PootRepository } from "./repository.js";
import { counted, newStanding, type StandingDocument } from "./standing.js";

export type Counting = ReturnType<typeof createCounting>;

const turnMs = 3_000;
/** Younger verdicts are still being counted by the replica that made them. */
const leftoverMs = 2_000;
const chunkMax = 250;
/**
 * How often one count may find that another was faster, or that its read was stale. What remains then is a leftover.
 */
const lossesMax = 50;
const nodesAtOnce = 8;
const leftoversPageMax = 200;
/** Nodes whose rejections wait to be written; rejections of further nodes appear only in the metric. */
const rejectedNodesMax = 10_000;

export function createCounting(parts: {
  readonly repository: PootRepository;
  /** Puts the score of the last counted verdict on the node; `version` is that of the standing it comes from. */
  readonly setNodeScore: (nodeId: string, score: number, version: number) => Promise<void>;
  /** Only the leader looks for leftovers. */
  readonly leadership: () => Leadership | undefined;
  readonly clock: Clock;
  readonly log: Pick<Log, "info" | "warn">;
}) {
  const { repository, clock, log } = parts;
  const rejections = new Map<string, number>();
  /** The count that runs for a node, and the next one, shared by all callers that came meanwhile. */
  const running = new Map<string, { readonly current: Promise<void>; next?: Promise<void> }>();

  /** Writes the node's score first: once the verdicts are marked nobody comes back to them. */
  const settle = async ({ _id: nodeId, last, version, taken }: StandingDocument): Promise<void> => {
    if (taken.length === 0) return;
    if (last !== undefined) await parts.setNodeScore(nodeId, last.score, version);
    await repository.mark(taken);
  };

  const addRejections = (nodeId: string, count: number): void => {
    if (count === 0 || (rejections.size >= rejectedNodesMax && !rejections.has(nodeId))) return;
    rejections.set(nodeId, (rejections.get(nodeId) ?? 0) + count);
  };

  /** Writes the next standing; false: another count was faster. Rejections are kept if the write fails. */
  const advance = async (
    standing: StandingDocument,
    fresh: Parameters<typeof counted>[1],
    rejected: number,
  ): Promise<boolean> => {
    const next = counted(standing, fresh, rejected, clock.now());
    rejections.delete(next._id);
    let written = false;
    try {
      written = await repository.replaceStanding(next);
    } finally {
      if (!written) addRejections(next._id, rejected);
    }
    if (written) await settle(next);
    return written;
  };

  const countAll = async (nodeId: string): Promise<void> => {
    for (let losses = 0; losses < lossesMax; ) {
      const standing = (await repository.standingOf(nodeId)) ?? newStanding(nodeId);
      const page = await repository.uncountedOf(nodeId, chunkMax);
      const taken = new Set(standing.taken);
      const fresh = page.items.filter(({ _id }) => !taken.has(_id));
      // When the page is full, some of the taken verdicts may be beyond its end.
      if (fresh.length < page.items.length || page.next !== undefined) await settle(standing);
      const rejected = rejections.get(nodeId) ?? 0;
      if (fresh.length > 0 || rejected > 0) {
        const areUncounted = fresh.length === 0 || (await repository.areUncounted(fresh.map(({ _id }) => _id)));
        if (!areUncounted || !(await advance(standing, fresh, rejected))) losses++;
        else if (page.next === undefined) return;
      } else if (page.next === undefined) return;
    }
  };

  const start = (nodeId: string): Promise<void> => {
    const current = countAll(nodeId).finally(() => {
      if (running.get(nodeId)?.next === undefined) running.delete(nodeId);
    });
    running.set(nodeId, { current });
    return current;
  };

  /**
   * Counts the node's verdicts that are stored now. Callers that ask while a count runs share the next one.
   * @throws StoreUnavailableError: what is not counted is counted later
   */
  const count = (nodeId: string): Promise<void> => {
    const entry = running.get(nodeId);
    if (entry === undefined) return start(nodeId);
    // The callers of the current count hear of its failure; the next count runs all the same.
    entry.next ??= Promise.allSettled([entry.current]).then(() => start(nodeId));
    return entry.next;
  };

  const countMany = (nodeIds: readonly string[]): Promise<void> => eachOf(nodeIds, nodesAtOnce, count);

  const countLeftovers = async (leadership: Leadership): Promise<void> => {
    const before = new Date(clock.now().getTime() - leftoverMs);
    for await (const verdicts of pages((after) => repository.uncountedBefore(before, leftoversPageMax, after))) {
      await countMany([...new Set(verdicts.map(({ node_id }) => node_id))]);
      if (!leadership.holds()) return;
    }
  };

  const countRejected = () => countMany([...rejections.keys()]);

  const turn = async (): Promise<Next> => {
    const leadership = parts.leadership();
    const idle = leadership === undefined && rejections.size === 0;
    await countRejected();
    if (leadership !== undefined) await countLeftovers(leadership);
    return idle ? "idle" : undefined;
  };

  const away = outage({
    log,
    began: "Verdicts are not counted now; they are kept",
    ended: "Verdicts are counted again",
  });

  return {
    count,
    countMany,
    /** Notes that a proof of an existing node was refused; it is written within seconds, best effort. */
    reject: (nodeId: string): void => addRejections(nodeId, 1),
    task: turns({ clock, everyMs: turnMs, turn, away, last: countRejected }).task,
  };
}
