import { ConnectError, createClient } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.js";
import { NodeService } from "../../gen/lucid/node/v1/node_service_pb.js";
import { Code, failureOf, protocols, startTestServer, transportOf, until } from "./harness.js";

describe.each(protocols)("health over %s, without credentials", (protocol) => {
  test("Check and List tell what was set", async () => {
    await using server = await startTestServer();
    const health = createClient(Health, transportOf(server.port, protocol, undefined));
    const statusOf = async (service: string) => (await health.check({ service })).status;
    expect(await statusOf("")).toBe(Status.NOT_SERVING);
    expect(await statusOf("liveness")).toBe(Status.SERVING);
    for (const service of ["", "readiness", NodeService.typeName]) server.health.set(service, "SERVING");
    expect(await statusOf("")).toBe(Status.SERVING);
    expect(await statusOf(NodeService.typeName)).toBe(Status.SERVING);
    expect(Object.keys((await health.list({})).statuses).sort()).toEqual(
      ["", "liveness", NodeService.typeName, "readiness"].sort(),
    );
    expect((await failureOf(statusOf("unknown"))).code).toBe(Code.NotFound);
  });

  test("Watch tells changes, knows unknown services, and ends with the server", async () => {
    await using server = await startTestServer();
    const health = createClient(Health, transportOf(server.port, protocol, undefined));
    const seen: Record<string, Status[]> = { readiness: [], later: [] };
    const watch = async (service: string) => {
      for await (const { status } of health.watch({ service })) seen[service]?.push(status);
    };
    const watches = Promise.all([failureOf(watch("readiness")), failureOf(watch("later"))]);
    await until(() => seen.readiness?.length === 1 && seen.later?.length === 1, "the present states");
    server.health.set("readiness", "SERVING");
    server.health.set("later", "SERVING");
    await until(() => seen.readiness?.length === 2 && seen.later?.length === 2, "the changes");
    expect(seen).toEqual({
      readiness: [Status.NOT_SERVING, Status.SERVING],
      later: [Status.SERVICE_UNKNOWN, Status.SERVING],
    });
    server.shutdown.abort(new ConnectError("server shutting down", Code.Unavailable));
    for (const error of await watches) expect(error.code).toBe(Code.Unavailable);
  });
});
