// A service with few file descriptors, and strangers who take as many of them as they can.
import { mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { until } from "../support/world/until.js";
import { commandLine, requireBuilt } from "./built.js";
import { startProgram } from "./process.js";

const sockets: Socket[] = [];
let directory: string;
beforeAll(requireBuilt);
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "lucid-descriptors-"));
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  rmSync(directory, { recursive: true, force: true });
});

const connectIdle = (port: number): Promise<void> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    sockets.push(socket);
    socket.once("connect", () => resolve()).on("error", () => resolve());
  });

const served = (port: number, path: string) =>
  fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(2_000) }).then(
    ({ status }) => status === 200,
    () => false,
  );

test("idle connections shut nobody out: not from the port, not from the probes, and the log says so once", async () => {
  const env = { DATA_DIR: directory, PORT: "0", METRICS_PORT: "0", HOST: "127.0.0.1", DRAIN_WINDOW: "0" };
  const command = 'ulimit -n 256; exec "$0" "$1" serve';
  await using service = startProgram("bash", ["-c", command, process.execPath, commandLine], { cwd: directory, env });
  const [line] = await service.printed(/^.*"message":"Serving".*$/m);
  const { port, metrics_port: probes } = JSON.parse(line) as { port: number; metrics_port: number };
  expect(service.stdout).toContain("The limit of open files is below STREAMS_MAX");
  for (let index = 0; index < 400; index++) await connectIdle(index % 4 === 0 ? probes : port);
  await until(() => served(port, "/live"), "a newcomer is served on the port", 10_000);
  await until(() => served(probes, "/ready"), "probes are served", 10_000);
  await until(() => served(probes, "/metrics"), "metrics are served", 10_000);
  const told = service.stdout.split("\n").filter((text) => text.includes("connections refused or closed"));
  expect(told.length).toBeGreaterThan(0);
  expect(told.length).toBeLessThan(4);
  service.kill("SIGTERM");
  expect((await service.ended).code).toBe(0);
}, 60_000);
