// The node's side of the connection: it stays connected as long as possible, and reconnects by itself after anything
// but a refusal.
import { randomUUID } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import {
  type Command,
  type HardwareInfoSchema,
  type NodeMetricsSchema,
  type NodeService,
  NodeStatus,
} from "../../gen/lucid/node/v1/node_service_pb.js";
import { lucidReason, retryAfterMs } from "../client/errors.js";
import { pauseMs } from "../client/pause.js";
import type { Clock } from "../clock.js";
import { shownMax, streamSpacingMs } from "./bounds.js";
import { UnfitChallengeError } from "./credentials.js";
import type { Passport } from "./passport.js";
import type { ServiceTime } from "./service-time.js";
import { holdStream } from "./stream.js";

export type AgentState = "connecting" | "connected" | "waiting" | "left" | "refused";

export interface AgentOptions {
  readonly nodes: Client<typeof NodeService>;
  readonly nodeId: string;
  /**
   * The node's tokens, and the service's time that dates them. A node has only one passport, shared by all its callers:
   * a refresh token works once, and a token refused to one caller is useless to the others.
   */
  readonly passport: Passport;
  readonly serviceTime: ServiceTime;
  readonly clock: Clock;
  readonly random: () => number;
  readonly agentVersion: string;
  /** May take as long as it needs: neither beats nor connecting wait for it for long. */
  readonly sample: () => Promise<MessageInitShape<typeof NodeMetricsSchema> | undefined>;
  readonly describe: () => Promise<MessageInitShape<typeof HardwareInfoSchema> | undefined>;
  /** Called with each change of state, and a detail for people. */
  readonly onState?: (state: AgentState, detail: string) => void;
  readonly onAck?: () => void;
  /** Called when the work should run or rest. The default agent has no work of its own. */
  readonly onDesired?: (status: NodeStatus) => void;
}

/** How the agent ended: it was asked to stop, or the service refused the node. */
export type AgentEnd = { readonly end: "left" } | { readonly end: "refused"; readonly message: string };

const backoffMinMs = 1_000;
const backoffMaxMs = 30_000;
/**
 * How long the first connection waits for the machine's description. If that takes longer, the next connection sends
 * it.
 */
const describeMs = 3_000;

/** Runs until the signal aborts (the node then leaves) or the service refuses the node for good. */
export async function runAgent(options: AgentOptions, signal: AbortSignal): Promise<AgentEnd> {
  const { clock, random, nodeId, passport, serviceTime } = options;
  const bootId = randomUUID();
  const tell = options.onState ?? (() => undefined);
  const described = describing(options);
  await clock.sleep(describeMs, AbortSignal.any([described.over, signal]));
  let failures = 0;
  while (!signal.aborted) {
    const beganMs = clock.monotonicMs();
    let waitMs: number;
    let token: string | undefined;
    tell("connecting", "");
    try {
      token = await passport.token();
      const end = await holdStream(
        {
          ...options,
          token,
          perform: performer(options),
          hello: { nodeId, bootId, agentVersion: options.agentVersion, ...described.found() },
          onServerTime: serviceTime.hear,
          onWelcome: (welcome) => {
            failures = 0;
            tell("connected", `session ${welcome.sessionEpoch}`);
          },
          onAck: options.onAck ?? (() => undefined),
          onDesired: options.onDesired ?? (() => undefined),
        },
        signal,
      );
      waitMs = end.reconnectAfterMs ?? backoffMs(failures++, random);
    } catch (error) {
      if (signal.aborted) break;
      if (isFinal(error)) {
        const message = ConnectError.from(error).rawMessage.slice(0, shownMax);
        tell("refused", message);
        return { end: "refused", message };
      }
      if (token !== undefined && ConnectError.from(error).code === Code.Unauthenticated) passport.refused(token);
      waitMs = pauseMs(retryAfterMs(error), backoffMs(failures++, random), random());
      tell("waiting", wordsOf(error));
    }
    await clock.sleep(Math.max(waitMs, beganMs + streamSpacingMs - clock.monotonicMs()), signal);
  }
  tell("left", "");
  return { end: "left" };
}

const wordsOf = (error: unknown): string =>
  (error instanceof UnfitChallengeError ? error.message : ConnectError.from(error).message).slice(0, shownMax);

/** Reads the machine's description in parallel with everything else. */
function describing({ describe }: Pick<AgentOptions, "describe">) {
  const over = new AbortController();
  let hardwareInfo: Awaited<ReturnType<typeof describe>>;
  describe()
    .then((found) => {
      hardwareInfo = found;
    })
    // An agent also runs without a description of its machine.
    .catch(() => undefined)
    .finally(() => over.abort());
  return { over: over.signal, found: () => (hardwareInfo === undefined ? {} : { hardwareInfo }) };
}

/** Full jitter: anywhere between the shortest wait and a ceiling that doubles with each failure. */
export const backoffMs = (failures: number, random: () => number): number =>
  backoffMinMs + random() * (Math.min(backoffMaxMs, backoffMinMs * 2 ** (failures + 1)) - backoffMinMs);

/** Whether a retry would be refused again. */
function isFinal(error: unknown): boolean {
  const { code } = ConnectError.from(error);
  return code === Code.PermissionDenied || (code === Code.Aborted && lucidReason(error) === "LUCID_ERR_5013");
}

/** The commands that an agent without work of its own can do: each only sets a status. */
function performer(options: AgentOptions) {
  const desired = options.onDesired ?? (() => undefined);
  return async ({ command }: Command): Promise<"done" | "unsupported"> => {
    switch (command.case) {
      case "start":
      case "restart":
        desired(NodeStatus.ACTIVE);
        return "done";
      case "stop":
        desired(NodeStatus.INACTIVE);
        return "done";
      case "collectMetrics":
      case "updateConfiguration":
        return "done";
      default:
        return "unsupported";
    }
  };
}
