// The RPCs that move a node from one status to another: start, stop, restart, maintenance, bans. node.ts decides which
// moves are allowed.
import { randomUUID } from "node:crypto";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { NodeService } from "../../gen/lucid/node/v1/node_service_pb.js";
import type { Caller } from "../access/caller.js";
import type { Clock } from "../clock.js";
import { dateOf } from "../conventions/time.js";
import { malformed } from "../failure.js";
import { callerOf } from "../rpc/context.js";
import {
  ban,
  begin,
  type Decision,
  enterMaintenance,
  exitMaintenance,
  type NodeDocument,
  type Operation,
} from "./node.js";
import type { Operations } from "./operations.js";
import type { Reconciler } from "./reconciler.js";
import type { NodeRepository } from "./repository.js";
import { nodeToWire, statusToWire } from "./wire.js";

type LifecycleHandlers = Pick<
  ServiceImpl<typeof NodeService>,
  "startNode" | "restartNode" | "stopNode" | "enterMaintenance" | "exitMaintenance" | "banNode" | "unbanNode"
>;

export function lifecycleHandlers(parts: {
  readonly repository: Pick<NodeRepository, "change">;
  readonly operations: Operations;
  readonly reconciler: Pick<Reconciler, "step">;
  readonly clock: Clock;
  readonly settings: { readonly commandTimeoutMs: number };
}): LifecycleHandlers {
  const { repository, operations, clock } = parts;

  /** A lifecycle call: what it did, or why there was nothing to do. */
  const lifecycle = (operation: Operation, nodeId: string, caller: Caller) =>
    operations.counted(operation, async () => {
      let already: string | undefined;
      const begun = await repository.change(nodeId, clock.now, (node) => {
        const deadline = new Date(clock.now().getTime() + parts.settings.commandTimeoutMs);
        const decision = begin(node, operation, { actor: caller.subject, operationId: randomUUID(), deadline });
        already = "already" in decision ? decision.already : undefined;
        return "patch" in decision ? decision.patch : undefined;
      });
      if (already !== undefined) return { node: begun, message: already };
      const node = await parts.reconciler.step(begun);
      return { node, message: `Node is ${node.status}` };
    });

  const started = async (operation: "start" | "restart", nodeId: string, context: HandlerContext) => {
    const { node, message } = await lifecycle(operation, nodeId, callerOf(context));
    const active = node.status === "active" && node.started_at !== undefined;
    return {
      nodeId,
      status: statusToWire[node.status],
      message,
      ...(active && node.started_at ? { startedAt: timestampFromDate(node.started_at) } : {}),
    };
  };

  const decided = (operation: string, nodeId: string, decide: (node: NodeDocument) => Decision) =>
    operations.change(operation, nodeId, (node) => {
      const decision = decide(node);
      return "patch" in decision ? decision.patch : undefined;
    });

  return {
    startNode: ({ nodeId }, context) => started("start", nodeId, context),
    restartNode: ({ nodeId }, context) => started("restart", nodeId, context),
    stopNode: async ({ nodeId }, context) => {
      const { node, message } = await lifecycle("stop", nodeId, callerOf(context));
      const stoppedAt = node.status === "inactive" ? { stoppedAt: timestampFromDate(node.updated_at) } : {};
      return { nodeId, status: statusToWire[node.status], message, ...stoppedAt };
    },

    enterMaintenance: async ({ nodeId, reason, deadline }, context) => {
      const until = deadline && dateOf("deadline", deadline);
      if (until !== undefined && until <= clock.now()) {
        throw malformed({ field: "deadline", description: "must be in the future" });
      }
      const actor = callerOf(context).subject;
      const node = await decided("enter_maintenance", nodeId, (current) =>
        enterMaintenance(current, actor, reason, until),
      );
      return { node: nodeToWire(node) };
    },
    exitMaintenance: async ({ nodeId }, context) => {
      const actor = callerOf(context).subject;
      return { node: nodeToWire(await decided("exit_maintenance", nodeId, (node) => exitMaintenance(node, actor))) };
    },

    banNode: async ({ nodeId, reason }, context) => {
      const node = await operations.change("ban", nodeId, (current) => ban(current, callerOf(context).subject, reason));
      return { node: nodeToWire(node) };
    },
    unbanNode: async ({ nodeId }, context) => {
      const event = { type: "unbanned", reason: "unbanned", actor: callerOf(context).subject } as const;
      const node = await operations.change("unban", nodeId, ({ banned }) =>
        banned ? { set: { banned: false }, event } : undefined,
      );
      return { node: nodeToWire(node) };
    },
  };
}
