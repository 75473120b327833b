// lucid-node agent: makes this machine a node.
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { decodeJwt } from "jose";
import { AdminService } from "../../gen/lucid/node/v1/admin_service_pb.js";
import { NodeService, NodeStatus } from "../../gen/lucid/node/v1/node_service_pb.js";
import { PoOTService, type PoOTValidation } from "../../gen/lucid/node/v1/poot_service_pb.js";
import { type AgentEnd, type AgentState, runAgent } from "../agent/agent.js";
import { agentReadMaxBytes } from "../agent/bounds.js";
import { type Credentials, createCredentials, type FileRules, loadCredentials } from "../agent/credentials.js";
import { descriptionToWire, sampleToWire } from "../agent/machine.js";
import { createPassport } from "../agent/passport.js";
import { hashChain, type ProverOptions, runProver } from "../agent/prover.js";
import { createServiceTime, wordsOfSkew } from "../agent/service-time.js";
import { createSession } from "../client/session.js";
import { type Clock, systemClock, systemRandom } from "../clock.js";
import { systemCollector } from "../machine/machine.js";
import { present } from "../present.js";
import { readClientTokens, readSecretsGroupReadable } from "../settings/environment.js";
import { packageVersion } from "../version.js";
import { complain, say } from "./output.js";
import { outputOf } from "./produce.js";
import { untilSignalled } from "./service.js";
import { UsageError } from "./usage.js";

export interface AgentCommandOptions {
  readonly server: string;
  /** The environment's when absent. */
  readonly enrollmentToken?: string | undefined;
  readonly credentials: string;
  readonly prove: boolean;
  /** If given, the agent also proves. */
  readonly proveCommand?: string | undefined;
}

/** Returns the exit code: 1 when the service refuses the node. @throws UsageError, StartError */
export async function agent(options: AgentCommandOptions): Promise<number> {
  const { server: baseUrl, proveCommand, enrollmentToken = readClientTokens().enrollmentToken } = options;
  const credentials = openCredentials(options.credentials, enrollmentToken, {
    groupReadable: readSecretsGroupReadable(),
    onUnsaved: complain,
  });
  if (new URL(baseUrl).protocol === "http:") {
    say(`The connection to ${baseUrl} is without TLS: this agent trusts the network between it and the service.`);
  }
  say(`node ${credentials.identity.nodeId}, credentials in ${options.credentials}`);
  const end = await runMachineAgent(
    {
      baseUrl,
      credentials,
      ...present({ enrollmentToken }),
      onState: (state, detail) => say(`${state}${detail === "" ? "" : `: ${detail}`}`),
      onSkew: (aheadMs) => complain(wordsOfSkew(aheadMs)),
      ...(options.prove || proveCommand !== undefined ? { prove: proveAloud(proveCommand, say) } : {}),
    },
    untilSignalled(),
  );
  if (end.end === "refused") complain(`The service refuses this node: ${end.message}`);
  return end.end === "left" ? 0 : 1;
}

/** The saved credentials, or new ones for the node that the enrolment token names. @throws UsageError, StartError */
export function openCredentials(file: string, enrollmentToken: string | undefined, rules: FileRules = {}): Credentials {
  const kept = loadCredentials(file, rules);
  const named = enrollmentToken === undefined ? undefined : nodeOf(enrollmentToken);
  if (kept !== undefined) {
    if (typeof named === "string" && named !== kept.identity.nodeId) {
      throw new UsageError(`${file} belongs to ${kept.identity.nodeId}, the enrolment token to ${named}`);
    }
    return kept;
  }
  if (typeof named !== "string")
    throw new UsageError(`There are no credentials in ${file}: an enrolment token is needed`);
  return createCredentials(file, named, rules);
}

function nodeOf(enrollmentToken: string): unknown {
  try {
    return decodeJwt(enrollmentToken).node_id;
  } catch {
    throw new UsageError(
      "The enrolment token is not a token: copy all of it, as lucid-node token --enrollment prints it",
    );
  }
}

export interface MachineAgentOptions {
  readonly baseUrl: string;
  readonly credentials: Credentials;
  readonly enrollmentToken?: string;
  readonly onState: (state: AgentState, detail: string) => void;
  /** The machine's clock when absent. */
  readonly clock?: Clock;
  /** Called when the machine's clock is more than 5 s ahead of the service's, or behind it (negative). */
  readonly onSkew?: (aheadMs: number) => void;
  /** If given, proves in parallel with the beats. */
  readonly prove?: Pick<ProverOptions, "produce" | "onProof" | "onProblem">;
}

const proofEveryMs = 60_000;

/** Proves the output of the command, or of the built-in work, and prints the result. */
export const proveAloud = (
  command: string | undefined,
  say: (line: string) => void,
): NonNullable<MachineAgentOptions["prove"]> => ({
  produce: (seed, signal) =>
    command === undefined
      ? hashChain(systemClock, seed, signal)
      : outputOf(command, seed, { clock: systemClock, signal }),
  onProof: (validation) => say(wordsOf(validation)),
  onProblem: (message) => say(`no verdict on this minute's proof: ${message}`),
});

const wordsOf = ({ isValid, score, outputSize, validationId, errors }: PoOTValidation): string =>
  `proof ${validationId}: ${isValid ? "valid" : "not valid"}, ${score.toFixed(2)} points for ${outputSize} bytes` +
  (errors.length === 0 ? "" : ` (${errors.join(", ")})`);

/** Runs an agent that reports this machine. */
export async function runMachineAgent(options: MachineAgentOptions, signal: AbortSignal): Promise<AgentEnd> {
  const { baseUrl, credentials, prove, clock = systemClock } = options;
  const sessionManager = createSession(baseUrl, { pingIntervalMs: 30_000 });
  const transport = createGrpcTransport({ baseUrl, sessionManager, readMaxBytes: agentReadMaxBytes });
  const [nodes, admin] = [createClient(NodeService, transport), createClient(AdminService, transport)];
  const means = { clock, random: systemRandom };
  const { identity } = credentials;
  const serviceTime = createServiceTime(clock, (aheadMs) => options.onSkew?.(aheadMs));
  const { now } = serviceTime;
  const passport = createPassport({ credentials, now, nodes, admin, enrollmentToken: options.enrollmentToken });
  const over = new AbortController();
  let desired: NodeStatus = NodeStatus.UNSPECIFIED;
  const proving = prove && {
    ...prove,
    ...means,
    poot: createClient(PoOTService, transport),
    identity,
    ...passport,
    now,
    isTimeKnown: serviceTime.isKnown,
    intervalMs: proofEveryMs,
    isAtWork: () => desired === NodeStatus.ACTIVE,
  };
  const proved = proving && runProver(proving, AbortSignal.any([over.signal, signal]));
  try {
    return await runAgent(
      {
        ...means,
        nodes,
        nodeId: identity.nodeId,
        passport,
        serviceTime,
        onState: options.onState,
        onDesired: (status) => {
          desired = status;
        },
        agentVersion: `lucid-node/${packageVersion()}`,
        sample: async () => sampleToWire(await systemCollector.sample()),
        describe: async () => descriptionToWire(await systemCollector.describe()),
      },
      signal,
    );
  } finally {
    over.abort();
    await proved;
    sessionManager.abort();
  }
}
