// Keys that the settings do not give are made once and kept.
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Role } from "../../gen/lucid/node/v1/admin_service_pb.js";
import { loadSecrets } from "../../src/access/secrets.js";
import { startChild } from "../support/fleet/child.js";
import { openWorld } from "../support/world/world.js";

let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), "lucid-secrets-"));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

const unset = { jwtSecretKey: undefined, jwtPrivilegedSecretKey: undefined, encryptionKey: undefined };
const load = (tweaks: Partial<Parameters<typeof loadSecrets>[0]> = {}) => loadSecrets({ dataDir, ...unset, ...tweaks });

describe("secrets", () => {
  test("are made once, kept for their owner only, and the same after a restart", () => {
    const first = load();
    expect(load()).toEqual(first);
    expect(statSync(join(dataDir, "secrets.json")).mode & 0o777).toBe(0o600);
    expect(Buffer.from(first.encryptionKey, "base64")).toHaveLength(32);
    expect(first.rings.privileged).toBeUndefined();
  });

  test("that are set win over the kept ones, each by itself", () => {
    const kept = load();
    const jwtSecretKey = "k2:0123456789-0123456789-0123456789,k1:abcdefghij-abcdefghij-abcdefghij";
    const set = load({ jwtSecretKey });
    expect(set.rings.common.map(({ kid }) => kid)).toEqual(["k2", "k1"]);
    expect(set.encryptionKey).toBe(kept.encryptionKey);
    expect(set.challengeKey).toEqual(kept.challengeKey);
  });

  test("are not made when all are set", () => {
    load({ jwtSecretKey: "x".repeat(40), encryptionKey: Buffer.alloc(32).toString("base64") });
    expect(() => statSync(join(dataDir, "secrets.json"))).toThrow();
  });

  test("differ by what they are for", () => {
    const { challengeKey, pageTokenKey } = load();
    expect(Buffer.from(challengeKey)).not.toEqual(Buffer.from(pageTokenKey));
  });

  test("that cannot be read are an error, not new ones", () => {
    writeFileSync(join(dataDir, "secrets.json"), "{");
    expect(() => load()).toThrow();
  });

  test("made by several processes at once are the same for all", async () => {
    const entry = new URL("print-secrets.ts", import.meta.url);
    const children = Array.from({ length: 4 }, () => startChild(entry, { args: [dataDir] }));
    const lines = await Promise.all(children.map((child) => child.line((line) => line.startsWith("key "))));
    await Promise.all(children.map(({ ended }) => ended));
    expect(new Set(lines).size).toBe(1);
  });

  test("keep tokens good over a restart of the service", async () => {
    await using world = await openWorld({ settings: { JWT_SECRET_KEY: undefined, ENCRYPTION_KEY: undefined } });
    const { accessToken } = await world.admin.issueToken({ subject: "ops", role: Role.OPERATOR });
    await world.restart("stop");
    await world.as(accessToken).nodes.listNodes({});
  });
});
