// Ends what is overdue: starts, stops and restarts that a crash or a silent node left behind, and maintenance whose
// deadline has passed. Handlers use the same step, so that a call is answered without waiting for the next turn.
import type { Clock } from "../clock.js";
import type { Leadership } from "../replicas/lease.js";
import { pages } from "../storage/pages.js";
import { type Next, outage, turns, unless } from "../task.js";
import type { Log } from "../telemetry/log.js";
import { advance, type NodeDocument } from "./node.js";
import { isNodeGone, type NodeRepository } from "./repository.js";

export type Reconciler = ReturnType<typeof createReconciler>;

const turnMs = 1000;
const pageMax = 200;

export function createReconciler(parts: {
  readonly repository: NodeRepository;
  readonly clock: Clock;
  /**
   * Only the leader does this. Otherwise all replicas would read the same nodes and find that another replica was
   * faster.
   */
  readonly leadership: () => Leadership | undefined;
  readonly log: Pick<Log, "info" | "warn">;
}) {
  const { repository, clock, log } = parts;

  /** Advances one node if something is due; answers the node as it is then. */
  const step = async (node: NodeDocument, leadership?: Leadership): Promise<NodeDocument> => {
    const patch = advance(node, clock.now());
    if (patch === undefined) return node;
    const advanced = await repository.compareAndSet(node, patch, clock.now(), { fence: leadership?.token });
    // Null: another writer has changed the node first, which is as good.
    return advanced ?? (await repository.get(node._id));
  };

  const advanceDue = async (leadership: Leadership): Promise<void> => {
    const advanceOne = async (node: NodeDocument) => {
      if (leadership.holds()) await step(node, leadership).catch(unless(isNodeGone));
    };
    const advanceAll = (nodes: readonly NodeDocument[]) => Promise.all(nodes.map(advanceOne));
    for await (const nodes of pages((after) => repository.inTransition(pageMax, after))) await advanceAll(nodes);
    await advanceAll(await repository.maintenanceOver(clock.now(), pageMax));
  };

  const turn = async (): Promise<Next> => {
    const leadership = parts.leadership();
    if (leadership === undefined) return "idle";
    await advanceDue(leadership);
    return undefined;
  };

  const away = outage({
    log,
    began: "Overdue starts, stops and maintenance are not ended now",
    ended: "Overdue starts, stops and maintenance are ended again",
  });
  return { task: turns({ clock, everyMs: turnMs, turn, away }).task, step: (node: NodeDocument) => step(node) };
}
