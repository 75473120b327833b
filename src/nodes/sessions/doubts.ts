// Sessions that may have been opened here by a write that was never answered. Their nodes' documents name this replica,
// so nobody else would judge them. Once the store answers again they are looked up and taken in.
import type { NodeDocument } from "../node.js";
import type { NodeRepository } from "../repository.js";

export type Doubts = ReturnType<typeof createDoubts>;

const lookedUpAtOnce = 500;

export function createDoubts(parts: {
  readonly repository: Pick<NodeRepository, "findMany">;
  readonly replicaId: string;
  /** The epoch of the node's session that is known here. */
  readonly epochOf: (nodeId: string) => number | undefined;
  /** Takes in a session of this replica that is not known here; an older session gives way. */
  readonly adopt: (node: NodeDocument) => void;
}) {
  const doubtful = new Set<string>();
  return {
    note: (nodeId: string): void => void doubtful.add(nodeId),

    /** To be called when the store answers. Rejects when the store no longer does; the doubts stay. */
    settle: async (): Promise<void> => {
      const asked = [...doubtful].slice(0, lookedUpAtOnce);
      if (asked.length === 0) return;
      // A doubt that is noted from here on is about a write that this read may not see: it stays for the next time.
      for (const nodeId of asked) doubtful.delete(nodeId);
      const nodes = await parts.repository.findMany(asked).catch((error: unknown) => {
        for (const nodeId of asked) doubtful.add(nodeId);
        throw error;
      });
      for (const nodeId of asked) {
        const node = nodes.get(nodeId);
        const own = node?.session_replica === parts.replicaId;
        // A session that was opened while the nodes were read is newer than what was read.
        if (own && (parts.epochOf(nodeId) ?? 0) < node.session_epoch) parts.adopt(node);
      }
    },
  };
}
