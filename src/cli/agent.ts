// lucid-node agent: makes this machine a node.
import { homedir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { decodeJwt } from "jose";
import { AdminService } from "../../gen/lucid/node/v1/admin_service_pb.js";
import { NodeService } from "../../gen/lucid/node/v1/node_service_pb.js";
import { type AgentEnd, type AgentState, runAgent } from "../agent/agent.js";
import { type Credentials, createCredentials, loadCredentials } from "../agent/credentials.js";
import { descriptionToWire, sampleToWire } from "../agent/machine.js";
import { systemClock } from "../clock.js";
import { systemCollector } from "../resources/collector.js";
import { readClientTokens } from "../settings.js";
import { type Command, UsageError, untilSignalled } from "./command.js";

export const agent: Command = {
  summary: "make this machine a node: enrol once, then stay connected",
  usage:
    "lucid-node agent --server URL [--enrollment-token TOKEN] [--credentials FILE]\n" +
    "The token may come in the environment as LUCID_ENROLLMENT_TOKEN, where the list of processes does not show it.",
  run: async (arguments_) => {
    const { values } = parseArgs({
      args: [...arguments_],
      options: {
        server: { type: "string" },
        "enrollment-token": { type: "string" },
        credentials: { type: "string", default: join(homedir(), ".config", "lucid-node", "agent.json") },
      },
    });
    if (values.server === undefined) throw new UsageError("--server is required");
    const enrollmentToken = values["enrollment-token"] ?? readClientTokens().enrollmentToken;
    const credentials = openCredentials(values.credentials, enrollmentToken);
    process.stdout.write(`node ${credentials.identity.nodeId}, credentials in ${values.credentials}\n`);
    const end = await runMachineAgent(
      {
        baseUrl: values.server,
        credentials,
        ...(enrollmentToken === undefined ? {} : { enrollmentToken }),
        onState: (state, detail) => process.stdout.write(`${state}${detail === "" ? "" : `: ${detail}`}\n`),
      },
      untilSignalled(),
    );
    if (end.end === "refused") process.stderr.write(`The service refuses this node: ${end.message}\n`);
    return end.end === "left" ? 0 : 1;
  },
};

/** The credentials kept, or new ones for the node that the enrolment token names. @throws UsageError */
export function openCredentials(file: string, enrollmentToken: string | undefined): Credentials {
  const kept = loadCredentials(file);
  const named = enrollmentToken === undefined ? undefined : decodeJwt(enrollmentToken).node_id;
  if (kept !== undefined) {
    if (typeof named === "string" && named !== kept.identity.nodeId) {
      throw new UsageError(`${file} belongs to ${kept.identity.nodeId}, the enrolment token to ${named}`);
    }
    return kept;
  }
  if (typeof named !== "string")
    throw new UsageError(`There are no credentials in ${file}: an enrolment token is needed`);
  return createCredentials(file, named);
}

export interface MachineAgentOptions {
  readonly baseUrl: string;
  readonly credentials: Credentials;
  readonly enrollmentToken?: string;
  readonly onState: (state: AgentState, detail: string) => void;
}

/** Runs an agent that reports this machine. */
export async function runMachineAgent(options: MachineAgentOptions, signal: AbortSignal): Promise<AgentEnd> {
  const { baseUrl, ...rest } = options;
  const sessionManager = new Http2SessionManager(baseUrl, { pingIntervalMs: 30_000 });
  const transport = createGrpcTransport({ baseUrl, sessionManager });
  try {
    return await runAgent(
      {
        ...rest,
        nodes: createClient(NodeService, transport),
        admin: createClient(AdminService, transport),
        clock: systemClock,
        random: Math.random,
        agentVersion: "lucid-node/1.0.0",
        sample: async () => sampleToWire(await systemCollector.sample()),
        describe: async () => descriptionToWire(await systemCollector.describe()),
      },
      signal,
    );
  } finally {
    sessionManager.abort();
  }
}
