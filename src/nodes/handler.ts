// NodeService: each RPC reads its request, asks the feature, and shapes the answer.
import { randomUUID } from "node:crypto";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  type CreateNodeRequest,
  CreateNodeRequestSchema,
  type NodeService,
  type UpdateNodeRequest,
} from "../../gen/lucid/node/v1/node_service_pb.js";
import type { Caller } from "../access/caller.js";
import type { Policy } from "../access/permission.js";
import type { TokenPair } from "../access/tokens.js";
import type { Clock } from "../clock.js";
import { idempotencyId, meaningOf, once } from "../conventions/idempotency.js";
import type { Paging } from "../conventions/paging.js";
import { dateOf } from "../conventions/time.js";
import { checkVersion, maskedPaths } from "../conventions/update.js";
import type { Vault } from "../crypto.js";
import { malformed } from "../failure.js";
import { present } from "../present.js";
import { callerOf, callOf } from "../rpc/context.js";
import { charge } from "../rpc/gate.js";
import type { Enrollment, EnrollmentToken } from "./enrollment.js";
import type { NodeLog } from "./history/log.js";
import type { Watch } from "./history/watch.js";
import { defaultPriority, type Membership, type Move, whileSlotsCollide } from "./membership.js";
import {
  ban,
  begin,
  type Decision,
  enterMaintenance,
  exitMaintenance,
  type NodeDocument,
  type Operation,
  type Patch,
  remove,
  resetEnrollment,
} from "./node.js";
import type { Reconciler } from "./reconciler.js";
import type { NodeRepository } from "./repository.js";
import { listQuery, merged, newNode, updatePatch } from "./requests.js";
import type { Sessions } from "./sessions/sessions.js";
import type { SkewWatch } from "./sessions/skew.js";
import { heartbeatHandlers } from "./sessions/stream.js";
import { eventToWire, nodeToWire, statusToWire } from "./wire.js";

export const nodePolicies = {
  createNode: { permission: "node:write" },
  getNode: { permission: "node:read", nodeToken: "self" },
  listNodes: { permission: "node:read" },
  updateNode: { permission: "node:write" },
  setPayoutAddress: { permission: "payout:admin" },
  deleteNode: { permission: "node:write" },
  startNode: { permission: "node:start" },
  stopNode: { permission: "node:stop" },
  restartNode: { permission: "node:restart" },
  enterMaintenance: { permission: "node:write" },
  exitMaintenance: { permission: "node:write" },
  banNode: { permission: "node:admin" },
  unbanNode: { permission: "node:admin" },
  beginEnrollment: { permission: "open", tier: "credential" },
  completeEnrollment: { permission: "open", tier: "credential" },
  resetEnrollment: { permission: "node:admin" },
  // Bounded by its own rules (sessions per node, streams per replica): a fleet behind one address must find back.
  heartbeat: { permission: "node:heartbeat", nodeToken: "handler", tier: "none" },
  reportHeartbeat: { permission: "node:heartbeat", nodeToken: "self" },
  watchNodes: { permission: "node:read" },
  listNodeEvents: { permission: "node:read", nodeToken: "self" },
} as const satisfies Partial<Record<keyof typeof NodeService.method, Policy>>;

export interface NodeHandlerParts {
  readonly repository: NodeRepository;
  readonly membership: Membership;
  readonly log: NodeLog;
  readonly watch: Watch;
  readonly sessions: Sessions;
  readonly reconciler: Reconciler;
  readonly enrollment: Enrollment;
  readonly paging: Paging;
  readonly vault: Vault;
  readonly clock: Clock;
  readonly storeNow: () => Promise<Date>;
  /** What is wrong with a payout address; undefined when it is fine. */
  readonly addressProblem: (address: string) => string | undefined;
  readonly maskAddress: (address: string) => string;
  /** The tokens of a node that has proved who it is. */
  readonly issueNodeTokens: (node: NodeDocument) => Promise<TokenPair>;
  /** The enrolment token of a call, verified; undefined when it brings none. */
  readonly enrollmentToken: (header: Headers) => Promise<EnrollmentToken | undefined>;
  readonly operations: (operation: string, status: "success" | "error") => void;
  readonly unknownMessages: { inc(): void };
  readonly skew: SkewWatch;
  readonly settings: {
    readonly commandTimeoutMs: number;
    readonly graceMs: number;
    readonly metricsIntervalMs: number;
    readonly payoutAddressCooldownMs: number;
  };
}

/** The RPCs of NodeService that are this folder's; those of resources stand beside them. */
export type NodeHandlers = Pick<ServiceImpl<typeof NodeService>, keyof typeof nodePolicies>;

export function createNodeHandler(parts: NodeHandlerParts): NodeHandlers {
  const { repository, membership, log, enrollment, paging, clock } = parts;

  const counted = async <T>(operation: string, work: () => Promise<T>): Promise<T> => {
    try {
      const answer = await work();
      parts.operations(operation, "success");
      return answer;
    } catch (error) {
      parts.operations(operation, "error");
      throw error;
    }
  };

  const change = (
    operation: string,
    nodeId: string,
    decide: (node: NodeDocument) => Patch | undefined | Promise<Patch | undefined>,
  ): Promise<NodeDocument> => counted(operation, () => repository.change(nodeId, clock.now, decide));

  /** A lifecycle call: what it did, or why there was nothing to do. */
  const lifecycle = (operation: Operation, nodeId: string, caller: Caller) =>
    counted(operation, async () => {
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
    change(operation, nodeId, (node) => {
      const decision = decide(node);
      return "patch" in decision ? decision.patch : undefined;
    });

  const addressFields = (address: string, former: NodeDocument | undefined): Partial<NodeDocument> => {
    const problem = parts.addressProblem(address);
    if (problem !== undefined) throw malformed({ field: "payout_address", description: problem });
    const fingerprint = parts.vault.fingerprint(address);
    const waits = former?.payout_address !== undefined && former.payout_address_fingerprint !== fingerprint;
    return {
      payout_address: parts.vault.seal(address),
      payout_address_fingerprint: fingerprint,
      payout_address_masked: parts.maskAddress(address),
      ...(waits
        ? { payout_address_usable_at: new Date(clock.now().getTime() + parts.settings.payoutAddressCooldownMs) }
        : {}),
    };
  };

  const createNode = async (request: CreateNodeRequest, context: HandlerContext) => {
    const caller = callerOf(context);
    const { made, replayed } = await once({
      id: idempotencyId(context.method.name, caller.subject, request.idempotencyKey),
      meaning: meaningOf(CreateNodeRequestSchema, request),
      find: repository.findByIdempotencyId,
      make: (key) => makeNode({ ...newNode(request, caller, clock.now(), addressFields), ...key }, request, caller),
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

  /** Takes back a node whose pool went away or shrank while it joined. */
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
    const node = await change("update", wanted.nodeId, async (current) => {
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
    createNode: (request, context) => counted("create", () => createNode(request, context)),
    getNode: async ({ nodeId }) => ({ node: nodeToWire(await repository.get(nodeId)) }),

    listNodes: async (request) => {
      const { filter, query, binding } = listQuery(request);
      const window = paging.window(request, binding);
      const page = await repository.list(filter, { ...query, ...window });
      return {
        nodes: page.items.map(nodeToWire),
        pagination: await paging.pagination(window, binding, page.next, () => repository.countOf(filter)),
      };
    },

    updateNode,

    setPayoutAddress: async ({ nodeId, payoutAddress, expectedVersion }, context) => {
      const actor = callerOf(context).subject;
      const event = { type: "updated", reason: "payout address changed", actor } as const;
      const node = await change("set_payout_address", nodeId, (current) => {
        checkVersion(expectedVersion, current);
        if (payoutAddress !== "") return { set: addressFields(payoutAddress, current), event };
        if (current.payout_address === undefined) return undefined;
        // What is waited for outlives the address: taking it away first must not shorten the wait.
        return {
          unset: ["payout_address", "payout_address_fingerprint", "payout_address_masked"],
          set: { payout_address_usable_at: new Date(clock.now().getTime() + parts.settings.payoutAddressCooldownMs) },
          event,
        };
      });
      return { node: nodeToWire(node) };
    },

    deleteNode: async ({ nodeId }, context) => {
      await change("delete", nodeId, (node) => remove(node, callerOf(context).subject, clock.now()));
      return {};
    },

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
      const node = await change("ban", nodeId, (current) => ban(current, callerOf(context).subject, reason));
      return { node: nodeToWire(node) };
    },
    unbanNode: async ({ nodeId }, context) => {
      const event = { type: "unbanned", reason: "unbanned", actor: callerOf(context).subject } as const;
      const node = await change("unban", nodeId, ({ banned }) =>
        banned ? { set: { banned: false }, event } : undefined,
      );
      return { node: nodeToWire(node) };
    },

    beginEnrollment: async ({ nodeId, publicKey }, context) => {
      const bring = () => parts.enrollmentToken(context.requestHeader);
      const { challenge, expiresAt } = await enrollment.begin(nodeId, publicKey, bring);
      // That the key is pinned proves nothing yet, for keys are public: one who asks for others must not use up their limit.
      await charge(callOf(context), `${nodeId} at ${callOf(context).peer.address}`);
      return { challenge, expiresAt: timestampFromDate(expiresAt) };
    },
    completeEnrollment: ({ nodeId, challenge, signature }, context) =>
      counted("enroll", async () => {
        const bring = () => parts.enrollmentToken(context.requestHeader);
        const proven = () => charge(callOf(context), nodeId);
        const node = await enrollment.complete(nodeId, challenge, signature, bring, proven);
        const { accessToken, refreshToken, expiresAt } = await parts.issueNodeTokens(node);
        return { accessToken, refreshToken, expiresAt: timestampFromDate(expiresAt) };
      }),
    resetEnrollment: async ({ nodeId }, context) => {
      const actor = callerOf(context).subject;
      // Replicas read of resets by their date.
      const at = await parts.storeNow();
      return { node: nodeToWire(await change("reset_enrollment", nodeId, (node) => resetEnrollment(node, actor, at))) };
    },

    ...heartbeatHandlers(parts),
    watchNodes: parts.watch.watchNodes,

    listNodeEvents: async (request) => {
      const since = request.since && dateOf("since", request.since);
      const binding = `events\n${request.nodeId}\n${since?.getTime() ?? ""}`;
      const window = paging.window(request, binding);
      const query = { ...present({ since }), descending: true, ...window };
      const page = await log.eventsOf(request.nodeId, query);
      // A node without any event never was; a deleted one keeps its events.
      if (page.items.length === 0) await requireHistory(request.nodeId);
      return {
        events: page.items.map(eventToWire),
        pagination: await paging.pagination(window, binding, page.next, () => log.countOf(request.nodeId, since)),
      };
    },
  };

  async function requireHistory(nodeId: string): Promise<void> {
    if ((await log.countOf(nodeId, undefined)) === 0) await repository.get(nodeId);
  }
}
