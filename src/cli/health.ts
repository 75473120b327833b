// lucid-node health: queries grpc.health.v1 like a Kubernetes probe; the exit code is 0 only for SERVING.
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.js";
import { createSession } from "../client/session.js";
import { urlOfSettings } from "./connection.js";
import { say } from "./output.js";

export interface HealthOptions {
  /** The address in the settings when absent. */
  readonly server?: string | undefined;
  /** A service name of grpc.health.v1; "" is readiness. */
  readonly service: string;
}

/** Returns the exit code. @throws StartError for settings that cannot be used */
export async function health({ server, service }: HealthOptions): Promise<number> {
  const baseUrl = server ?? urlOfSettings();
  const sessionManager = createSession(baseUrl);
  const client = createClient(Health, createGrpcTransport({ baseUrl, sessionManager, readMaxBytes }));
  try {
    const { status } = await client.check({ service }, { timeoutMs: 3_000 });
    say(nameOf(status));
    return status === Status.SERVING ? 0 : 1;
  } catch (error) {
    say(ConnectError.from(error).message);
    return 1;
  }
}

/** Bytes. The answer is a single number. */
const readMaxBytes = 1024;

const nameOf = (status: Status): string =>
  Object.entries(Status).find(([, value]) => value === status)?.[0] ?? "UNKNOWN";
