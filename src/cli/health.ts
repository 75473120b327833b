// lucid-node health: asks grpc.health.v1, as a Kubernetes probe does; exit code 0 only for SERVING.
import { parseArgs } from "node:util";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.js";
import { localUrl } from "../client/address.js";
import { createSession } from "../client/session.js";
import { parseSettings, readEnvironment } from "../settings/settings.js";
import { type Command, serverOption } from "./command.js";
import { say } from "./output.js";

export const health: Command = {
  summary: "ask the service whether it serves; exit code 0 means SERVING",
  usage: "lucid-node health [--server URL] [--service readiness|liveness|NAME]",
  run: async (arguments_) => {
    const { values } = parseArgs({
      args: [...arguments_],
      options: { server: { type: "string" }, service: { type: "string", default: "" } },
    });
    const baseUrl = values.server === undefined ? urlOfSettings() : serverOption(values.server);
    const sessionManager = createSession(baseUrl);
    const client = createClient(Health, createGrpcTransport({ baseUrl, sessionManager, readMaxBytes }));
    try {
      const { status } = await client.check({ service: values.service }, { timeoutMs: 3_000 });
      say(nameOf(status));
      return status === Status.SERVING ? 0 : 1;
    } catch (error) {
      say(ConnectError.from(error).message);
      return 1;
    }
  },
};

/** An answer is a number. */
const readMaxBytes = 1024;

function urlOfSettings(): string {
  const { host, port, tls } = parseSettings(readEnvironment());
  return localUrl({ host, port, tls: tls !== undefined });
}

const nameOf = (status: Status): string =>
  Object.entries(Status).find(([, value]) => value === status)?.[0] ?? "UNKNOWN";
