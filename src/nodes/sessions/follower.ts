// Passes on what other replicas have done to nodes whose sessions are here: bans, commands, deletions. It reads the
// log, so it works even when messages between replicas do not. What was changed here is known already.
import { nodeNotFound } from "../../failure.js";
import type { Chunk } from "../history/feed.js";
import type { Sessions } from "./sessions.js";

export function createFollower(sessions: Pick<Sessions, "isBehind" | "nodeChanged" | "endNode">) {
  return {
    /** Rejects when the nodes cannot be read; the feed then passes the chunk again. */
    heard: async (chunk: Chunk): Promise<void> => {
      const behind = chunk.entries.filter(({ node_id, version }) => sessions.isBehind(node_id, version));
      if (behind.length === 0) return;
      for (const { type, node_id } of behind) if (type === "deleted") sessions.endNode(node_id, nodeNotFound(node_id));
      const nodes = await chunk.nodes();
      for (const { node_id } of behind) {
        const node = nodes.get(node_id);
        if (node !== undefined) sessions.nodeChanged(node);
      }
    },
  };
}
