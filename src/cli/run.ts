// lucid-node run: the service and a real agent of this machine in one process, to try it out.
import { hostname } from "node:os";
import { join } from "node:path";
import { TokenType } from "../../gen/lucid/node/v1/admin_service_pb.js";
import { Connectivity, NodeStatus, NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import { loadCredentials } from "../agent/credentials.js";
import { wordsOfSkew } from "../agent/service-time.js";
import { localUrl } from "../client/address.js";
import { createLucidClient } from "../client/client.js";
import { systemClock } from "../clock.js";
import { present } from "../present.js";
import { type RunningServer, startServer } from "../server.js";
import { parseSettings, readEnvironment } from "../settings/environment.js";
import type { Settings } from "../settings/settings.js";
import { openCredentials, proveAloud, runMachineAgent } from "./agent.js";
import { complain, say } from "./output.js";
import { runUntil, untilSignalled } from "./service.js";
import { signLocally } from "./sign.js";

/** Returns the exit code. @throws StartError */
export async function run(): Promise<number> {
  const signal = untilSignalled();
  const settings = parseSettings({ LOG_LEVEL: "WARNING", LOG_FORMAT: "standard", ...readEnvironment() });
  const server = await startServer(settings);
  const agentLeaves = new AbortController();
  const agent = runHere(settings, server, agentLeaves.signal).catch((error: unknown) => {
    complain(`The agent ended: ${String(error)}`);
  });
  return await runUntil(signal, server, async () => {
    say("");
    say("Stopping: the agent leaves, streams end, the store closes.");
    agentLeaves.abort();
    await agent;
  });
}

type Ports = Pick<RunningServer, "port" | "metricsPort">;

/** Makes this machine a node if it is not, starts the node, and holds its stream. */
async function runHere(settings: Settings, ports: Ports, signal: AbortSignal): Promise<void> {
  const baseUrl = localUrl({ host: settings.host, port: ports.port, tls: settings.tls !== undefined });
  const holder = { subject: "lucid-node-run", role: "admin", nodeId: undefined, tokenType: "service_access" } as const;
  const accessToken = await signLocally(settings, holder, 3600);
  using client = createLucidClient({ baseUrl, accessToken });
  const file = join(settings.dataDir, "agent.json");
  const rules = { groupReadable: settings.secretsGroupReadable, onUnsaved: complain };
  const enrollmentToken = loadCredentials(file, rules) === undefined ? await enrol(client) : undefined;
  const credentials = openCredentials(file, enrollmentToken, rules);
  const { nodeId } = credentials.identity;
  // The node's state in the store may be from before this process, so wait until its own agent is connected.
  const connected = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => connected.resolve(), { once: true });
  const running = runMachineAgent(
    {
      baseUrl,
      credentials,
      ...present({ enrollmentToken }),
      onState: (state, detail) => {
        say(`agent: ${state}${detail === "" ? "" : ` (${detail})`}`);
        if (state === "connected") connected.resolve();
      },
      onSkew: (aheadMs) => complain(wordsOfSkew(aheadMs)),
      prove: proveAloud(undefined, (line) => say(`agent: ${line}`)),
    },
    signal,
  );
  // Whether or not the node can be shown, the agent stays, and leaves in order at the end.
  const shown = connected.promise
    .then(() => show(client, nodeId, { baseUrl, metricsPort: ports.metricsPort }, settings.dataDir, signal))
    .catch((error: unknown) => {
      complain(`The node cannot be shown: ${String(error)}`);
    });
  await Promise.all([shown, running]);
}

async function enrol(client: ReturnType<typeof createLucidClient>): Promise<string> {
  const name = `${hostname().replaceAll(/[^a-zA-Z0-9_-]/g, "-")}-agent`.slice(-100);
  const { node } = await client.nodes.createNode({ name, nodeType: NodeType.WORKER, idempotencyKey: "this-machine" });
  const issued = await client.admin.issueToken({
    subject: "lucid-node-run",
    nodeId: node?.nodeId ?? "",
    tokenType: TokenType.NODE_ENROLLMENT,
  });
  return issued.accessToken;
}

/** Starts the node if needed, waits until it is CONNECTED and ACTIVE, and prints the next steps. */
async function show(
  client: ReturnType<typeof createLucidClient>,
  nodeId: string,
  { baseUrl, metricsPort }: { readonly baseUrl: string; readonly metricsPort: number },
  dataDir: string,
  signal: AbortSignal,
): Promise<void> {
  const limitMs = systemClock.monotonicMs() + 60_000;
  let started = false;
  while (!signal.aborted && systemClock.monotonicMs() < limitMs) {
    const { node } = await client.nodes.getNode({ nodeId });
    if (node?.connectivity === Connectivity.CONNECTED && node.status === NodeStatus.ACTIVE) {
      say("");
      say(`${nodeId} (${node.name}) is CONNECTED and ACTIVE, agent ${node.agentVersion}.`);
      say(`Serving on ${baseUrl}, metrics on port ${metricsPort}, data in ${dataDir}.`);
      say("");
      say("In another terminal, in this directory:");
      say(
        `  TOKEN=$(${dataDir === "./data" ? "" : `DATA_DIR=${dataDir} `}npm run -s lucid-node -- token --role admin)`,
      );
      say(
        `  curl -s -H "authorization: Bearer $TOKEN" -H "content-type: application/json" ` +
          `${baseUrl}/lucid.node.v1.NodeService/ListNodes -d '{}'`,
      );
      say("");
      say("Ctrl-C stops it.");
      return;
    }
    if (!started && node?.connectivity === Connectivity.CONNECTED) {
      started = true;
      if (node.status === NodeStatus.INACTIVE || node.status === NodeStatus.ERROR)
        await client.nodes.startNode({ nodeId });
    }
    await systemClock.sleep(200, signal);
  }
  if (!signal.aborted) complain("The agent has not become CONNECTED and ACTIVE within a minute.");
}
