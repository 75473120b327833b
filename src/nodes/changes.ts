// Who hears of the nodes that this replica has changed. The repository announces each write that succeeded, so that nobody
// who changes a node has to remember whom it concerns: streams, alerts, token resets and the log listen. What other
// replicas change is heard from the log instead (history/feed).
import type { NodeDocument } from "./node.js";

/** Touches memory only and returns at once: the caller of the change waits for it. */
export type ChangeListener = (node: NodeDocument) => void;

export function createChanges() {
  const listeners: ChangeListener[] = [];
  return {
    /** From now on the listener is handed each node that was changed here, as the write left it, in order of joining. */
    listen: (listener: ChangeListener): void => {
      listeners.push(listener);
    },
    announce: (node: NodeDocument): void => {
      for (const listener of listeners) listener(node);
    },
  };
}
