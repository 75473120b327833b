// Which nodes' enrolments were reset: no replica accepts a token from before a reset. The node's document decides, so
// that a reset is one write; this file is what each replica knows of it without asking the store at each call.
import type { Clock } from "../clock.js";
import { present } from "../present.js";
import { createDatedReader } from "../storage/dated.js";
import { type Change, isReset, type NodeDocument, predatesReset, type ResetFields, type TokenOrigin } from "./node.js";
import type { NodeRepository } from "./repository.js";

export type Resets = ReturnType<typeof createResets>;

type Reset = ResetFields & Pick<NodeDocument, "change">;

/** Remembers one entry for each node that was ever reset. */
export function createResets(parts: {
  readonly repository: Pick<NodeRepository, "find" | "resetSince">;
  readonly storeNow: () => Promise<Date>;
  readonly clock: Pick<Clock, "monotonicMs">;
}) {
  const known = new Map<string, Reset>();

  const note = ({ _id, change, enrollment_epoch, enrollment_reset_at, enrollment_epoch_at }: NodeDocument): void => {
    if (enrollment_reset_at === undefined || change < (known.get(_id)?.change ?? 0)) return;
    known.set(_id, present({ change, enrollment_reset_at, enrollment_epoch, enrollment_epoch_at }));
  };

  const look = createDatedReader({
    page: parts.repository.resetSince,
    take: note,
    storeNow: parts.storeNow,
    clock: parts.clock,
  });

  return {
    /** Takes in a node that was changed here. */
    note,

    /** Reads what was reset elsewhere; to be called about once a second. Rejects when the store is away. */
    look,

    /** Follows the log, so that a reset elsewhere is known as soon as its entry is read. */
    heard: async (entries: readonly Pick<Change, "type" | "reason">[]): Promise<void> => {
      if (entries.some(isReset)) await look();
    },

    /** Whether a node's token is older than a reset that is known here. */
    outdates: (nodeId: string, token: TokenOrigin): boolean => {
      const reset = known.get(nodeId);
      return reset !== undefined && predatesReset(token, reset);
    },

    /** What is needed to make or renew a token of that node, read from the store; null when there is no such node. */
    tokenHolder: async (nodeId: string) => {
      const node = await parts.repository.find(nodeId);
      if (node === null) return null;
      const { role, enrollmentEpoch } = tokenGrant(node);
      return {
        role,
        enrollmentEpoch,
        banned: node.banned,
        outdates: (token: TokenOrigin) => predatesReset(token, node),
      };
    },
  };
}

/** The claims of a node's tokens, made from its document: its id, its role and the enrolment that the tokens belong to. */
export const tokenGrant = ({ _id, node_type, enrollment_epoch = 0 }: NodeDocument) => ({
  subject: _id,
  nodeId: _id,
  role: node_type,
  enrollmentEpoch: enrollment_epoch,
});
