// The RPCs that create, update and delete a node, and set its payout address.
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  type CreateNodeRequest,
  CreateNodeRequestSchema,
  type NodeService,
  type UpdateNodeRequest,
} from "../../gen/lucid/node/v1/node_service_pb.js";
import type { Caller } from "../access/caller.js";
import type { Clock } from "../clock.js";
import { idempotencyId, meaningOf, once } from "../conventions/idempotency.js";
import { checkVersion, maskedPaths } from "../conventions/update.js";
import { malformed, wrongStatus } from "../failure.js";
import { callerOf } from "../rpc/context.js";
import { defaultPriority, type Membership, type Move, whileSlotsCollide } from "./membership.js";
import { type NodeDocument, remove } from "./node.js";
import type { Operations } from "./operations.js";
import type { PayoutAddresses } from "./payout-address.js";
import type { NodeRepository } from "./repository.js";
import { merged, newNode, updatePatch } from "./requests.js";
import { nodeToWire } from "./wire.js";

type RegistrationHandlers = Pick<
  ServiceImpl<typeof NodeService>,
  "createNode" | "updateNode" | "setPayoutAddress" | "deleteNode"
>;

export function registrationHandlers(parts: {
  readonly repository: NodeRepository;
  readonly operations: Operations;
  readonly membership: Membership;
  readonly payoutAddresses: PayoutAddresses;
  readonly hasOpenPayouts: (nodeId: string) => Promise<boolean>;
  readonly clock: Clock;
}): RegistrationHandlers {
  const { repository, operations, membership, payoutAddresses, clock } = parts;

  const createNode = async (request: CreateNodeRequest, context: HandlerContext) => {
    const caller = callerOf(context);
    const { made, replayed } = await once({
      id: idempotencyId(context.method.name, caller.subject, request.idempotencyKey),
      meaning: meaningOf(CreateNodeRequestSchema, request),
      find: repository.findByIdempotencyId,
      make: (key) =>
        makeNode({ ...newNode(request, caller, clock.now(), payoutAddresses.fields), ...key }, request, caller),
    });
    return { node: nodeToWire(made), replayed };
  };

  const makeNode = async (fresh: NodeDocument, request: CreateNodeRequest, caller: Caller): Promise<NodeDocument> => {
    const poolId = request.initialPoolId;
    const node = await whileSlotsCollide(async () => {
      const member = poolId === "" ? { name_scope: "-" } : await membership.claim(poolId, defaultPriority);
      const claimed: NodeDocument = { ...fresh, ...member };
      await repository.insert(claimed);
      return claimed;
    });
    if (poolId !== "") await membership.confirm(poolId).catch((error: unknown) => undo(node, caller, error));
    return node;
  };

  /** Takes back a node whose pool was deleted or shrunk while it joined. */
  const undo = async (node: NodeDocument, caller: Caller, error: unknown): Promise<never> => {
    await repository.change(node._id, clock.now, (current) => remove(current, caller.subject, clock.now()));
    throw error;
  };

  const updateNode = async (request: UpdateNodeRequest, context: HandlerContext) => {
    const { node: wanted } = request;
    if (wanted === undefined || wanted.nodeId === "")
      throw malformed({ field: "node.node_id", description: "is required" });
    const actor = callerOf(context).subject;
    const paths = maskedPaths(request.updateMask, [
      "name",
      "node_type",
      "pool_id",
      "configuration",
      "location",
      "labels",
    ]);
    let move: Move | undefined;
    const node = await operations.change("update", wanted.nodeId, async (current) => {
      checkVersion(request.expectedVersion, current);
      const patch = updatePatch(request, paths, current, actor);
      const moves = paths.has("pool_id") && wanted.poolId !== (current.pool_id ?? "");
      move = undefined;
      if (!moves) return patch;
      if (wanted.poolId === "") return merged(patch, membership.leaving(actor));
      const member = await membership.claim(wanted.poolId, current.pool_priority ?? defaultPriority);
      const joining = { ...patch, set: { ...patch.set, ...member } };
      move = { poolId: wanted.poolId, before: current, patch: joining };
      return joining;
    });
    if (move !== undefined) await membership.settle(move, actor);
    return { node: nodeToWire(node) };
  };

  return {
    createNode: (request, context) => operations.counted("create", () => createNode(request, context)),
    updateNode,

    setPayoutAddress: async ({ nodeId, payoutAddress, expectedVersion }, context) => {
      const actor = callerOf(context).subject;
      const event = { type: "updated", reason: "payout address changed", actor } as const;
      const node = await operations.change("set_payout_address", nodeId, (current) => {
        checkVersion(expectedVersion, current);
        if (payoutAddress !== "") return { set: payoutAddresses.fields(payoutAddress, current), event };
        if (current.payout_address === undefined) return undefined;
        return { ...payoutAddresses.cleared(), event };
      });
      return { node: nodeToWire(node) };
    },

    deleteNode: async ({ nodeId }, context) => {
      await operations.change("delete", nodeId, async (node) => {
        // A payout that is ordered after this look finds the node deleted, and ends.
        if (await parts.hasOpenPayouts(nodeId)) throw wrongStatus("Cannot delete a node that has open payouts");
        return remove(node, callerOf(context).subject, clock.now());
      });
      return {};
    },
  };
}
