// Who calls when there is a proxy in between: the service believes a proxy only if the operator has named it.
import { createClient } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { ServerReflection } from "../../gen/grpc/reflection/v1/reflection_pb.js";
import { connectionsThatFit, openFilesMax } from "../../src/port/descriptors.js";
import { createProxies } from "../../src/port/proxies.js";
import { failureOf, getNodePath, startTestServer, transportOf } from "../rpc/harness.js";

const proxies = createProxies(["10.0.0.0/8", "127.0.0.1", "2001:db8:1::/48"]);

test.each([
  ["nobody forwards", "10.0.0.1", undefined, "10.0.0.1"],
  ["a stranger claims an address", "192.0.2.7", "203.0.113.9", "192.0.2.7"],
  ["a proxy names its client", "10.0.0.1", "203.0.113.9", "203.0.113.9"],
  ["a client claims another in front of a proxy", "10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"],
  ["two proxies in a row", "127.0.0.1", "203.0.113.9, 10.2.3.4", "203.0.113.9"],
  ["proxies alone", "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"],
  ["nonsense behind a client", "10.0.0.1", "203.0.113.9, unknown", "10.0.0.1"],
  ["an address with a port", "10.0.0.1", "203.0.113.9:4711", "203.0.113.9"],
  ["IPv6 in brackets with a port", "2001:db8:1::1", "[2001:db8:2::5]:4711", "2001:db8:2::5"],
  ["IPv4 in IPv6", "10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"],
  ["an empty header", "10.0.0.1", "", "10.0.0.1"],
  ["thousands of entries", "10.0.0.1", `${"203.0.113.9,".repeat(5_000)}203.0.113.8`, "203.0.113.8"],
])("the client behind a connection: %s", (_what, address, header, client) => {
  expect(proxies.clientOf(address, header)).toBe(client);
});

test("limits by address count the client behind a trusted proxy, and the proxy where none is named", async () => {
  const limits = { public: 2, authenticated: 100, admin: 100, poot: 100, payout: 100, windowMs: 60_000 };
  const statuses = async (trusted: readonly string[]) => {
    const counts = new Map<string, number>();
    const hit = async (key: string, limit: number) => {
      counts.set(key, (counts.get(key) ?? 0) + 1);
      return { allowed: (counts.get(key) ?? 0) <= limit, count: 1, resetMs: 1_000 };
    };
    await using server = await startTestServer({ limits, hit, proxies: trusted });
    const found: number[] = [];
    for (const client of ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.1", "203.0.113.1"]) {
      const headers = { "content-type": "application/json", "x-forwarded-for": client };
      found.push(
        (await fetch(`http://127.0.0.1:${server.port}${getNodePath}`, { method: "POST", body: "{}", headers })).status,
      );
    }
    return found;
  };
  expect(await statuses(["127.0.0.0/8"])).toEqual([401, 401, 401, 401, 429]);
  expect(await statuses([])).toEqual([401, 401, 429, 429, 429]);
});

test("a trusted proxy may hold as many connections as it needs", async () => {
  await using server = await startTestServer({ proxies: ["127.0.0.1"], listener: { connectionsPerAddressMax: 1 } });
  const answers = await Promise.all(Array.from({ length: 20 }, () => fetch(`http://127.0.0.1:${server.port}/live`)));
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
  expect(server.closed.size).toBe(0);
});

test("questions to reflection count against their address, one by one", async () => {
  const limits = { public: 2, authenticated: 100, admin: 100, poot: 100, payout: 100, windowMs: 60_000 };
  // The clock does not move: on a slow machine the budget would grow as fast as it is spent.
  await using server = await startTestServer({ limits, nowMs: () => 0 });
  const client = createClient(ServerReflection, transportOf(server.port, "grpc", undefined));
  const ask = async (count: number) => {
    async function* questions() {
      for (let index = 0; index < count; index++) {
        yield { messageRequest: { case: "fileContainingSymbol" as const, value: "lucid.node.v1.NodeService" } };
      }
    }
    let answers = 0;
    for await (const _ of client.serverReflectionInfo(questions())) answers++;
    return answers;
  };
  expect(await ask(900)).toBe(900);
  expect((await failureOf(ask(900))).rawMessage).toMatch(/Too many calls without a token/);
});

test("and a stream of them has an end, also where nobody is limited", async () => {
  await using server = await startTestServer();
  const client = createClient(ServerReflection, transportOf(server.port, "grpc", undefined));
  async function* questions() {
    for (let index = 0; index < 1_100; index++) yield { messageRequest: { case: "listServices" as const, value: "" } };
  }
  const read = async () => {
    for await (const _ of client.serverReflectionInfo(questions()));
  };
  expect((await failureOf(read())).rawMessage).toBe("Too many questions");
});

test("connections leave room below the limit of open files", () => {
  expect(
    openFilesMax(
      "Limit  Soft Limit  Hard Limit  Units\nMax open files            256                  524288               files\n",
    ),
  ).toBe(256);
  expect(openFilesMax("Max open files            unlimited            unlimited            files\n")).toBeUndefined();
  expect(openFilesMax("")).toBeUndefined();
  expect(connectionsThatFit(25_000, 256)).toBe(128);
  expect(connectionsThatFit(25_000, 64)).toBe(32);
  expect(connectionsThatFit(25_000, 1_048_576)).toBe(25_000);
  expect(connectionsThatFit(100, 1_048_576)).toBe(100);
  expect(connectionsThatFit(100, undefined)).toBe(100);
});
