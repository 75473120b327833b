// The client that other services install: it keeps tokens fresh, sets deadlines, and repeats calls where this is safe.
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterEach, describe, expect, it } from "vitest";
import { AdminService, Role } from "../../gen/lucid/node/v1/admin_service_pb.js";
import { NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import { createLucidClient, type LucidClient, lucidReason, retryAfterMs } from "../../src/client/index.js";
import { StoreUnavailableError } from "../../src/storage/collection.js";
import { anActiveNode, aProof } from "../poot/proofs.js";
import { engineNames } from "../support/engines/engines.js";
import { createTestClock } from "../support/world/clock.js";
import { openWorld, type World } from "../support/world/world.js";

describe("createLucidClient", () => {
  let world: World | undefined;
  let lucid: LucidClient | undefined;
  afterEach(async () => {
    lucid?.[Symbol.dispose]();
    await world?.[Symbol.asyncDispose]();
  });

  it("makes typed calls and tells the reason of a refusal", async () => {
    world = await openWorld();
    lucid = createLucidClient({ baseUrl: world.baseUrl, accessToken: await world.token("operator") });
    const { node } = await lucid.nodes.createNode({ name: "client", nodeType: NodeType.WORKER });
    expect(node?.name).toBe("client");
    const refused = await lucid.nodes.getNode({ nodeId: "node_missing" }).catch((error: unknown) => error);
    expect(lucidReason(refused)).toBe("LUCID_ERR_5001");
    expect(retryAfterMs(refused)).toBeUndefined();
  });

  it("renews its token once for many calls, and tells whoever keeps it", async () => {
    world = await openWorld();
    const { refreshToken } = await world.admin.issueToken({ subject: "service", role: Role.OPERATOR });
    const kept: string[] = [];
    lucid = createLucidClient({
      baseUrl: world.baseUrl,
      accessToken: await world.token("operator", { expiresAt: new Date(Date.now() - 60_000) }),
      refreshToken,
      onTokens: (tokens) => kept.push(tokens.accessToken),
    });
    await Promise.all(Array.from({ length: 10 }, () => lucid?.nodes.listNodes({})));
    expect(kept).toHaveLength(1);
  });

  it("reaches a service however its address is written, and refuses in a sentence what is none", async () => {
    world = await openWorld();
    const accessToken = await world.token("operator");
    for (const baseUrl of [`127.0.0.1:${world.port}`, `http://127.0.0.1:${world.port}/`]) {
      using client = createLucidClient({ baseUrl, accessToken });
      await client.nodes.listNodes({});
    }
    for (const baseUrl of ["http://::1:8083", "http://[fe80::1%25eth0]:8083", "ftp://host", "", "http://u:p@host"]) {
      expect(() => createLucidClient({ baseUrl, accessToken })).toThrow("baseUrl takes an address such as");
    }
  });

  it("says so when the token is bad and there is nothing to renew it with", async () => {
    world = await openWorld();
    lucid = createLucidClient({ baseUrl: world.baseUrl, accessToken: "bad" });
    const refused = await lucid.nodes.listNodes({}).catch((error: unknown) => error);
    expect(ConnectError.from(refused).code).toBe(Code.Unauthenticated);
  });

  it("waits as the service asks and repeats what is safe to repeat", async () => {
    // Randomness is fixed at 0: the service asks to wait for the rest of its window, and adds no spread.
    world = await openWorld({
      settings: { RATE_LIMIT_ENABLED: "true", RATE_LIMIT_PER_MINUTE: "2" },
      random: () => 0,
    });
    const clock = createTestClock();
    lucid = createLucidClient({
      baseUrl: world.baseUrl,
      accessToken: await world.token("operator"),
      clock,
      random: () => 0,
      retries: 1,
    });
    await lucid.nodes.listNodes({});
    await lucid.nodes.listNodes({});
    const answer = lucid.nodes.listNodes({}).catch((error: unknown) => error);
    await expect.poll(() => clock.sleepers).toBe(1);
    await clock.advance(59_000);
    expect(clock.sleepers).toBe(1);
    await clock.advance(1_000);
    expect(ConnectError.from(await answer).code).toBe(Code.ResourceExhausted);
  });

  it("adds a part of its own to the time that the service asks for, so that callers told the same spread", async () => {
    world = await openWorld({
      settings: { RATE_LIMIT_ENABLED: "true", RATE_LIMIT_PER_MINUTE: "2" },
      random: () => 0,
    });
    const clock = createTestClock();
    const accessToken = await world.token("operator");
    lucid = createLucidClient({ baseUrl: world.baseUrl, accessToken, clock, random: () => 0.8, retries: 1 });
    await lucid.nodes.listNodes({});
    await lucid.nodes.listNodes({});
    const answer = lucid.nodes.listNodes({}).catch((error: unknown) => error);
    await expect.poll(() => clock.sleepers).toBe(1);
    // The client waits a fifth longer than the rest of the minute, of which a little has passed.
    await clock.advance(70_000);
    expect(clock.sleepers).toBe(1);
    await clock.advance(3_000);
    expect(ConnectError.from(await answer).code).toBe(Code.ResourceExhausted);
  });

  it("does not repeat what may have taken effect", async () => {
    world = await openWorld();
    world.storeAway(true);
    const clock = createTestClock();
    lucid = createLucidClient({ baseUrl: world.baseUrl, accessToken: await world.token("operator"), clock });
    const refused = await lucid.nodes
      .createNode({ name: "once", nodeType: NodeType.WORKER })
      .catch((error: unknown) => error);
    expect(ConnectError.from(refused).code).toBe(Code.Unavailable);
    expect(retryAfterMs(refused)).toBe(1000);
    expect(clock.sleepers).toBe(0);
    world.storeAway(false);
  });

  it("repeats a proof until it has its verdict", async () => {
    world = await openWorld();
    const nodeId = await anActiveNode(world);
    let failures = 0;
    world.beforeStore((operation) => {
      if (operation === "insertOne" && failures++ === 0) throw new StoreUnavailableError("cut off");
      return undefined;
    });
    lucid = createLucidClient({ baseUrl: world.baseUrl, accessToken: await world.nodeToken(nodeId) });
    const { validation } = await lucid.poot.validatePoOT(aProof(world, nodeId));
    expect(validation?.isValid).toBe(true);
    expect(failures).toBeGreaterThan(1);
  });

  it("gives up at its deadline", async () => {
    world = await openWorld();
    const release = Promise.withResolvers<void>();
    const operator = await world.token("operator");
    world.beforeStore(() => release.promise);
    lucid = createLucidClient({ baseUrl: world.baseUrl, accessToken: operator, timeoutMs: 200, retries: 0 });
    const late = await lucid.nodes.getNode({ nodeId: "node_missing" }).catch((error: unknown) => error);
    expect(ConnectError.from(late).code).toBe(Code.DeadlineExceeded);
    release.resolve();
    world.beforeStore(undefined);
  });

  it("needs nothing of this package: any client asks what serves, a node's token too", async () => {
    world = await openWorld();
    const admin = createClient(AdminService, createGrpcTransport({ baseUrl: world.baseUrl }));
    const headers = {
      authorization: `Bearer ${await world.token("worker", { nodeId: "node_any", tokenType: "node_access" })}`,
    };
    const info = await admin.getServiceInfo({}, { headers });
    expect(info.engines).toMatchObject(engineNames);
  });
});
