// The disk of DATA_DIR fills up under a running service. The service says that it is not ready, loses nothing that it
// acknowledged, and goes on by itself when there is room again.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { beforeAll, expect, test } from "vitest";
import { NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import { createLucidClient } from "../../src/client/client.js";
import { canMount, mountDisk } from "../support/engines/disks.js";
import { until, within } from "../support/world/until.js";
import { commandLine, requireBuilt } from "./built.js";
import { runProgram, startProgram } from "./process.js";

beforeAll(requireBuilt);

test.skipIf(!canMount("a service whose disk is full"))(
  "a service whose disk is full is alive and not ready, and ready again when there is room, twice",
  async () => {
    const directory = mkdtempSync(join(tmpdir(), "lucid-full-"));
    const disk = mountDisk(directory, 6);
    try {
      const env = {
        DATA_DIR: join(disk.path, "data"),
        PORT: "0",
        METRICS_PORT: "0",
        RATE_LIMIT_ENABLED: "false",
        DRAIN_WINDOW: "0",
      };
      await using service = startProgram(process.execPath, [commandLine, "serve"], { cwd: directory, env });
      const [line] = await service.printed(/^.*"Serving".*$/m);
      const { port, metrics_port } = JSON.parse(line);
      const probe = async (name: string) => (await fetch(`http://127.0.0.1:${metrics_port}/${name}`)).status;
      const { stdout } = await runProgram(process.execPath, [commandLine, "token", "--role", "admin"], {
        cwd: directory,
        env,
      });
      using admin = createLucidClient({ baseUrl: `http://127.0.0.1:${port}`, accessToken: stdout.trim(), retries: 0 });
      const names = new Set<string>();
      let last = 0;
      const create = async () => {
        const name = `node-${last++}`;
        await admin.nodes.createNode({ name, nodeType: NodeType.WORKER });
        names.add(name);
      };
      await create();
      for (let round = 0; round < 2; round++) {
        disk.fill();
        const refused = async () => {
          const code = await create().then(
            () => undefined,
            (error: unknown) => ConnectError.from(error).code,
          );
          if (code !== undefined) expect(code).toBe(Code.Unavailable);
          return code !== undefined;
        };
        // The store's log may still have free pages, which take a few more writes.
        await until(refused, "writes are refused", 20_000);
        await until(async () => (await probe("ready")) === 503, "it is not ready");
        expect(await probe("live")).toBe(200);
        expect((await admin.nodes.listNodes({ limit: 1 })).nodes).toHaveLength(1);
        // The service stays unready, although it can still read.
        for (let look = 0; look < 3; look++) {
          await refused();
          expect(await probe("ready")).toBe(503);
        }
        disk.free();
        await until(async () => (await probe("ready")) === 200, "it is ready again");
        await create();
      }
      const { pagination } = await admin.nodes.listNodes({ limit: 100 });
      expect(pagination?.total).toBeGreaterThanOrEqual(names.size);
      disk.fill();
      service.kill("SIGTERM");
      expect(await within(service.ended, "it ends on a full disk")).toMatchObject({ code: 0 });
      const refused = await runProgram(process.execPath, [commandLine, "serve"], { cwd: directory, env });
      expect(refused).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/^\S+ cannot be .* free some of it.*\n$/),
      });
      disk.free();

      await using again = startProgram(process.execPath, [commandLine, "serve"], {
        cwd: directory,
        env: { ...env, PORT: String(port) },
      });
      await again.printed(/"Serving"/);
      const found = new Set((await admin.nodes.listNodes({ limit: 100 })).nodes.map(({ name }) => name));
      for (const name of names) expect(found).toContain(name);
    } finally {
      disk[Symbol.dispose]();
      rmSync(directory, { recursive: true, force: true });
    }
  },
  120_000,
);
