// Ends what time alone ends: starts, stops and restarts that a crash or a silent node left behind, and maintenance whose
// deadline has passed. Handlers use the same step, so that a call is answered without waiting for the next turn.
import type { Clock } from "../clock.js";
import type { Leadership } from "../replicas/lease.js";
import type { Task } from "../task.js";
import { advance, type NodeDocument } from "./node.js";
import type { NodeRepository } from "./repository.js";

export type Reconciler = ReturnType<typeof createReconciler>;

const turnMs = 1000;
const pageMax = 200;

export function createReconciler(parts: {
  readonly repository: NodeRepository;
  readonly clock: Clock;
  /** One replica does this at a time, or they would all read the same nodes to find that another one was faster. */
  readonly leadership: () => Leadership | undefined;
  readonly log: { warn(message: string, context: Record<string, unknown>): void };
}) {
  const { repository, clock, log } = parts;

  /** Advances one node if time has come; answers the node as it is then. */
  const step = async (node: NodeDocument, leadership?: Leadership): Promise<NodeDocument> => {
    const patch = advance(node, clock.now());
    if (patch === undefined) return node;
    const advanced = await repository.compareAndSet(node, patch, clock.now(), { fence: leadership?.token });
    // Null: somebody else has moved it on, which is as good.
    return advanced ?? (await repository.get(node._id));
  };

  const turn = async (leadership: Leadership): Promise<void> => {
    const advanceAll = (nodes: readonly NodeDocument[]) =>
      Promise.all(nodes.map((node) => (leadership.holds() ? step(node, leadership) : node)));
    let after: Parameters<NodeRepository["inTransition"]>[1];
    do {
      const page = await repository.inTransition(pageMax, after);
      await advanceAll(page.items);
      after = page.next;
    } while (after !== undefined);
    await advanceAll(await repository.maintenanceOver(clock.now(), pageMax));
  };

  const task: Task = async (signal) => {
    while (!signal.aborted) {
      const leadership = parts.leadership();
      const turned = leadership === undefined ? undefined : turn(leadership);
      await turned?.catch((error: unknown) => log.warn("Reconciling failed; it goes on in a second", { error }));
      await clock.sleep(turnMs, signal);
    }
  };

  return { task, step: (node: NodeDocument) => step(node) };
}
