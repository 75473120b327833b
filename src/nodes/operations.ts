// What callers do to nodes, each counted by its name and whether it succeeded.
import type { Clock } from "../clock.js";
import type { NodeDocument, Patch } from "./node.js";
import type { NodeRepository } from "./repository.js";

export type Operations = ReturnType<typeof createOperations>;

export function createOperations(parts: {
  readonly repository: Pick<NodeRepository, "change">;
  readonly clock: Pick<Clock, "now">;
  readonly countOperation: (operation: string, status: "success" | "error") => void;
}) {
  const counted = async <T>(operation: string, work: () => Promise<T>): Promise<T> => {
    try {
      const answer = await work();
      parts.countOperation(operation, "success");
      return answer;
    } catch (error) {
      parts.countOperation(operation, "error");
      throw error;
    }
  };
  return {
    counted,
    /** One change of a node; see `NodeRepository.change`. */
    change: (
      operation: string,
      nodeId: string,
      decide: (node: NodeDocument) => Patch | undefined | Promise<Patch | undefined>,
    ): Promise<NodeDocument> => counted(operation, () => parts.repository.change(nodeId, parts.clock.now, decide)),
  };
}
