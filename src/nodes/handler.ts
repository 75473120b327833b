// NodeService: each RPC reads its request, asks the feature, and shapes the answer. The RPCs that change a node are in
// registration.ts and lifecycle.ts, heartbeats in sessions/stream.ts.
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { NodeService } from "../../gen/lucid/node/v1/node_service_pb.js";
import type { Policy } from "../access/permission.js";
import type { TokenPair } from "../access/tokens.js";
import type { Clock } from "../clock.js";
import type { Paging } from "../conventions/paging.js";
import { dateOf } from "../conventions/time.js";
import { present } from "../present.js";
import { callerOf, callOf } from "../rpc/context.js";
import { charge } from "../rpc/gate.js";
import type { Enrollment, EnrollmentToken } from "./enrollment.js";
import type { NodeLog } from "./history/log.js";
import type { Watch } from "./history/watch.js";
import { eventToWire } from "./history/wire.js";
import { lifecycleHandlers } from "./lifecycle.js";
import type { Membership } from "./membership.js";
import { type NodeDocument, resetEnrollment } from "./node.js";
import { createOperations } from "./operations.js";
import type { PayoutAddresses } from "./payout-address.js";
import type { Reconciler } from "./reconciler.js";
import { registrationHandlers } from "./registration.js";
import type { NodeRepository } from "./repository.js";
import { listQuery } from "./requests.js";
import type { Sessions } from "./sessions/sessions.js";
import type { SkewWatch } from "./sessions/skew.js";
import { heartbeatHandlers } from "./sessions/stream.js";
import { nodeToWire } from "./wire.js";

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
  // Bounded by its own rules (sessions per node, streams per replica), because a fleet behind one address must be able
  // to reconnect.
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
  readonly clock: Clock;
  readonly storeNow: () => Promise<Date>;
  readonly payoutAddresses: PayoutAddresses;
  readonly hasOpenPayouts: (nodeId: string) => Promise<boolean>;
  /** The tokens of a node that has proved its identity. */
  readonly issueNodeTokens: (node: NodeDocument) => Promise<TokenPair>;
  /** The enrolment token of a call, verified; undefined when the call brings none. */
  readonly enrollmentToken: (header: Headers) => Promise<EnrollmentToken | undefined>;
  readonly countOperation: (operation: string, status: "success" | "error") => void;
  readonly unknownMessages: { inc(): void };
  readonly skew: SkewWatch;
  readonly settings: {
    readonly commandTimeoutMs: number;
    readonly graceMs: number;
    readonly metricsIntervalMs: number;
  };
}

/** The RPCs of NodeService that this folder answers; src/resources answers the others. */
export type NodeHandlers = Pick<ServiceImpl<typeof NodeService>, keyof typeof nodePolicies>;

export function createNodeHandler(parts: NodeHandlerParts): NodeHandlers {
  const { repository, log, enrollment, paging } = parts;
  const operations = createOperations(parts);

  return {
    ...registrationHandlers({ ...parts, operations }),
    ...lifecycleHandlers({ ...parts, operations }),

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

    beginEnrollment: async ({ nodeId, publicKey }, context) => {
      const bring = () => parts.enrollmentToken(context.requestHeader);
      const { challenge, expiresAt } = await enrollment.begin(nodeId, publicKey, bring);
      // A pinned key proves nothing yet, because keys are public. The charge is by node and address, so that a caller
      // who asks for other nodes does not use up their limit.
      await charge(callOf(context), `${nodeId} at ${callOf(context).peer.address}`);
      return { challenge, expiresAt: timestampFromDate(expiresAt) };
    },
    completeEnrollment: ({ nodeId, challenge, signature }, context) =>
      operations.counted("enroll", async () => {
        const bring = () => parts.enrollmentToken(context.requestHeader);
        const proven = () => charge(callOf(context), nodeId);
        const node = await enrollment.complete(nodeId, challenge, signature, bring, proven);
        const { accessToken, refreshToken, expiresAt } = await parts.issueNodeTokens(node);
        return { accessToken, refreshToken, expiresAt: timestampFromDate(expiresAt) };
      }),
    resetEnrollment: async ({ nodeId }, context) => {
      const actor = callerOf(context).subject;
      // Replicas find resets by their date, so the store's clock gives it.
      const at = await parts.storeNow();
      return {
        node: nodeToWire(
          await operations.change("reset_enrollment", nodeId, (node) => resetEnrollment(node, actor, at)),
        ),
      };
    },

    ...heartbeatHandlers(parts),
    watchNodes: parts.watch.watchNodes,

    listNodeEvents: async (request) => {
      const since = request.since && dateOf("since", request.since);
      const binding = `events\n${request.nodeId}\n${since?.getTime() ?? ""}`;
      const window = paging.window(request, binding);
      const query = { ...present({ since }), descending: true, ...window };
      const page = await log.eventsOf(request.nodeId, query);
      // A node without any event never existed; a deleted node keeps its events.
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
