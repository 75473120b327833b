// The contract's rules of shape. Each is tried with a value just inside and a value just outside.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Currency } from "../../gen/lucid/node/v1/common_pb.js";
import type { CreateNodeRequestSchema, NodeType } from "../../gen/lucid/node/v1/node_service_pb.js";
import type {
  CreateBatchPayoutRequestSchema,
  CreatePayoutRequestSchema,
  PayoutPriority,
  PayoutStatus,
} from "../../gen/lucid/node/v1/payout_service_pb.js";
import type { CreatePoolRequestSchema } from "../../gen/lucid/node/v1/pool_service_pb.js";
import { aHardware, aName, aNode, aPool, payeeAddress, tronAddress } from "../support/world/builders.js";
import { refusalOf, toRefusal } from "../support/world/refusal.js";
import { openWorld, type World } from "../support/world/world.js";

type Plain<Init> = Exclude<Init, { $typeName: string }>;
type NodeRequest = Plain<MessageInitShape<typeof CreateNodeRequestSchema>>;
type PayoutOrder = Plain<MessageInitShape<typeof CreatePayoutRequestSchema>>;
type BatchOrder = Plain<MessageInitShape<typeof CreateBatchPayoutRequestSchema>>;
type PoolRequest = Plain<MessageInitShape<typeof CreatePoolRequestSchema>>;

let world: World;
beforeAll(async () => {
  world = await openWorld();
});
afterAll(() => world[Symbol.asyncDispose]());

interface Rule<Value, Request> {
  readonly field: string;
  readonly inside: readonly Value[];
  readonly outside: readonly Value[];
  readonly request: (value: Value) => Request;
}

/** Keeps the values' type together with the function that places them. */
const rule = <Value, Request>(
  field: string,
  inside: readonly NoInfer<Value>[],
  outside: readonly NoInfer<Value>[],
  request: (value: Value) => Request,
): Rule<unknown, Request> => ({ field, inside, outside, request: (value) => request(value as Value) });

const long = (length: number) => "x".repeat(length);
const gigabyte = 1_000_000_000n;
const tebibyte = 2n ** 40n;

const hardware = (tweaks: Parameters<typeof aHardware>[0]): NodeRequest => ({ hardwareInfo: aHardware(tweaks) });
const location = (tweaks: Plain<NonNullable<NodeRequest["location"]>>): NodeRequest => ({
  location: { country: "DE", ...tweaks },
});
const configuration = (tweaks: Plain<NonNullable<NodeRequest["configuration"]>>): NodeRequest => ({
  configuration: tweaks,
});
const limits = (tweaks: { cpuPercent?: number; memoryBytes?: bigint; diskBytes?: bigint; networkMbps?: number }) => ({
  resourceLimits: tweaks,
});
const card = { interface: "eth0", macAddress: "02:00:00:00:00:01" };

const nodeRules: readonly Rule<unknown, NodeRequest>[] = [
  rule("name", ["abc", "A-Z_0-9", long(100)], ["", "ab", long(101), "with space", "dötted", "a.b"], (name: string) => ({
    name,
  })),
  rule("node_type", [1, 2, 3, 4], [0, 5 as NodeType, -1 as NodeType], (nodeType: NodeType) => ({ nodeType })),
  rule("hardware_info.cpu.cores", [1, 128], [0, 129, -1], (cores: number) => hardware({ cpu: { cores } })),
  rule("hardware_info.cpu.frequency_mhz", [1, 100_000], [0, 100_001], (frequencyMhz: number) =>
    hardware({ cpu: { cores: 1, frequencyMhz } }),
  ),
  rule("hardware_info.cpu.architecture", ["", long(64)], [long(65)], (architecture: string) =>
    hardware({ cpu: { cores: 1, architecture } }),
  ),
  rule("hardware_info.cpu.model", ["", long(200)], [long(201)], (model: string) =>
    hardware({ cpu: { cores: 1, model } }),
  ),
  rule("hardware_info.memory.total_bytes", [gigabyte, tebibyte], [gigabyte - 1n, tebibyte + 1n, -1n], (bytes: bigint) =>
    hardware({ memory: { totalBytes: bytes } }),
  ),
  rule(
    "hardware_info.storage[0].total_bytes",
    [10n * gigabyte, 100n * tebibyte],
    [10n * gigabyte - 1n, 100n * tebibyte + 1n],
    (totalBytes: bigint) => hardware({ storage: [{ totalBytes }] }),
  ),
  rule("hardware_info.storage", [0, 64], [65], (count: number) =>
    hardware({ storage: Array.from({ length: count }, () => ({ totalBytes: 10n * gigabyte })) }),
  ),
  rule("hardware_info.gpu.memory_bytes", [0n, tebibyte], [-1n, tebibyte + 1n], (memoryBytes: bigint) =>
    hardware({ gpu: { model: "g", memoryBytes } }),
  ),
  rule("hardware_info.gpu.compute_capability", ["", long(32)], [long(33)], (computeCapability: string) =>
    hardware({ gpu: { computeCapability } }),
  ),
  rule("hardware_info.network", [1, 64], [0, 65], (count: number) =>
    hardware({ network: Array.from({ length: count }, () => card) }),
  ),
  rule("hardware_info.network[0].interface", ["e", long(64)], ["", long(65)], (name: string) =>
    hardware({ network: [{ ...card, interface: name }] }),
  ),
  rule("hardware_info.network[0].speed_mbps", [0, 1_000_000], [-1, 1_000_001], (speedMbps: number) =>
    hardware({ network: [{ ...card, speedMbps }] }),
  ),
  rule(
    "hardware_info.network[0].mac_address",
    ["", "02:aB:00:00:00:ff"],
    ["02-00-00-00-00-01", "02:00:00:00:00", "02:00:00:00:00:0g"],
    (macAddress: string) => hardware({ network: [{ ...card, macAddress }] }),
  ),
  rule("location.country", ["DE", "ZZ"], ["", "de", "DEU", "D1"], (country: string) => location({ country })),
  rule("location.region", ["", long(100)], [long(101)], (region: string) => location({ region })),
  rule("location.city", ["", long(100)], [long(101)], (city: string) => location({ city })),
  rule("location.timezone", ["", "Europe/Berlin", "Etc/GMT+3"], ["Europe Berlin", long(65)], (timezone: string) =>
    location({ timezone }),
  ),
  rule("location.coordinates.latitude", [-90, 90, 0], [-90.001, 90.001, Number.NaN], (latitude: number) =>
    location({ coordinates: { latitude, longitude: 0 } }),
  ),
  rule("location.coordinates.longitude", [-180, 180], [-180.001, 180.001, Number.POSITIVE_INFINITY], (value: number) =>
    location({ coordinates: { latitude: 0, longitude: value } }),
  ),
  rule("configuration.max_sessions", [1, 1000], [0, 1001], (maxSessions: number) => configuration({ maxSessions })),
  rule("configuration.resource_limits.cpu_percent", [0.001, 100], [0, 100.001, -1, Number.NaN], (cpuPercent: number) =>
    configuration(limits({ cpuPercent })),
  ),
  rule("configuration.resource_limits.memory_bytes", [1n], [0n, -1n], (memoryBytes: bigint) =>
    configuration(limits({ memoryBytes })),
  ),
  rule("configuration.resource_limits.disk_bytes", [1n], [0n, -1n], (diskBytes: bigint) =>
    configuration(limits({ diskBytes })),
  ),
  rule("configuration.resource_limits.network_mbps", [1, 1_000_000], [0, 1_000_001], (networkMbps: number) =>
    configuration(limits({ networkMbps })),
  ),
  rule("configuration.maintenance_window.start_hour", [0, 23], [-1, 24], (startHour: number) =>
    configuration({ maintenanceWindow: { startHour, durationHours: 1 } }),
  ),
  rule("configuration.maintenance_window.duration_hours", [1, 24], [0, 25], (durationHours: number) =>
    configuration({ maintenanceWindow: { startHour: 0, durationHours } }),
  ),
  rule("labels", [0, 64], [65], (count: number) => ({
    labels: Object.fromEntries(Array.from({ length: count }, (_, place) => [`key-${place}`, "v"])),
  })),
  rule('labels["', ["k", "a.b/c_d-e", long(63)], ["-k", "k.", "k k", long(64)], (key: string) => ({
    labels: { [key]: "v" },
  })),
  rule('labels["k"]', ["", "v", long(63)], ["-v", "v.", "v v", long(64)], (value: string) => ({
    labels: { k: value },
  })),
  rule(
    "payout_address",
    ["", tronAddress],
    [long(43), `${tronAddress.slice(0, -1)}u`, "nonsense"],
    (address: string) => ({
      payoutAddress: address,
    }),
  ),
  rule("public_key", [0, 32], [31, 33], (length: number) => ({ publicKey: new Uint8Array(length).fill(length) })),
  rule("idempotency_key", ["", "k", long(128)], [long(129), "with space", "ümlaut"], (key: string) => ({
    idempotencyKey: key === "" ? "" : key,
  })),
  rule("initial_pool_id", [""], ["pool_", "pool_ab", `pool_${long(60)}`, "node_abc"], (initialPoolId: string) => ({
    initialPoolId,
  })),
];

const policy = {
  scaleUpThresholdPercent: 80,
  scaleDownThresholdPercent: 20,
  minNodes: 1,
  maxNodes: 10,
  cooldown: { seconds: 60n },
};
const scaling = (tweaks: Plain<NonNullable<PoolRequest["scalingPolicy"]>>): PoolRequest => ({
  scalingPolicy: { ...policy, ...tweaks },
});

const poolRules: readonly Rule<unknown, PoolRequest>[] = [
  rule("name", ["abc", long(100)], ["", "ab", long(101), "with space"], (name: string) => ({ name })),
  rule("description", ["", long(500)], [long(501)], (description: string) => ({ description })),
  rule("max_nodes", [1, 1000], [0, 1001, -1], (maxNodes: number) => ({ maxNodes })),
  rule("resource_limits.cpu_percent", [0.001, 100], [0, 100.001], (cpuPercent: number) => limits({ cpuPercent })),
  rule("resource_limits.memory_bytes", [1n], [0n], (memoryBytes: bigint) => limits({ memoryBytes })),
  rule("scaling_policy", [policy], [undefined], (scalingPolicy: typeof policy | undefined) => ({
    autoScaling: true,
    ...(scalingPolicy === undefined ? {} : { scalingPolicy }),
  })),
  rule("scaling_policy.scale_up_threshold_percent", [50, 95], [49.9, 95.1], (value: number) =>
    scaling({ scaleUpThresholdPercent: value }),
  ),
  rule("scaling_policy.scale_down_threshold_percent", [10, 50], [9.9, 50.1], (value: number) =>
    scaling({ scaleDownThresholdPercent: value }),
  ),
  rule("scaling_policy.min_nodes", [0, 10], [-1], (minNodes: number) => scaling({ minNodes })),
  rule("scaling_policy.max_nodes", [1, 1000], [1001], (maxNodes: number) => scaling({ maxNodes })),
  rule("scaling_policy", [5], [11], (minNodes: number) => scaling({ minNodes })),
  rule("scaling_policy.cooldown", [60n, 86_400n], [59n, 86_401n], (seconds: bigint) =>
    scaling({ cooldown: { seconds } }),
  ),
  rule("scaling_policy.target_cpu_percent", [30, 90], [29.9, 90.1], (targetCpuPercent: number) =>
    scaling({ targetCpuPercent }),
  ),
  rule(
    "pricing.cost_per_hour.amount",
    ["0", "12.5", "0.00000001"],
    ["", "-1", "01", "1e3", "1.", ".5", "0.123456789", long(33)],
    (amount: string) => ({ pricing: { costPerHour: { currency: Currency.USDT, amount } } }),
  ),
  rule("pricing.cost_per_hour.currency", [1, 2], [0, 3 as Currency], (currency: Currency) => ({
    pricing: { costPerHour: { currency, amount: "1" } },
  })),
  rule("pricing.cost_per_hour", [], [undefined], (_: undefined) => ({ pricing: {} })),
  rule("idempotency_key", ["", "k", long(128)], [long(129), "with space"], (idempotencyKey: string) => ({
    idempotencyKey,
  })),
];

// A node that does not exist: an order whose shape is right is refused for that.
const order: PayoutOrder = {
  ...{ nodeId: "node_unknown", money: { currency: Currency.USDT, amount: "1" }, idempotencyKey: "k" },
};
const item = { nodeId: "node_unknown", money: { currency: Currency.USDT, amount: "1" } };
const nodeIds = { inside: ["node_abc", `node_${long(59)}`], outside: ["", "node_ab", `node_${long(60)}`, "pool_abc"] };
const amounts = {
  inside: ["0.000001", "12.5", "1000000"],
  // The first ones are refused by shape, the others by the rules of money.
  outside: [
    ...["", "-1", "+1", "01", "1e3", "1,5", " 1", "1.", ".5", "\uff11", "1".repeat(40)],
    ...["0", "0.0000001", "1000000.000001"],
  ],
};

const payoutRules: readonly Rule<unknown, PayoutOrder>[] = [
  rule("node_id", nodeIds.inside, nodeIds.outside, (nodeId: string) => ({ nodeId })),
  rule("money.amount", amounts.inside, amounts.outside, (amount: string) => ({
    money: { currency: Currency.USDT, amount },
  })),
  rule("money.currency", [Currency.USDT, Currency.LUCID], [0, 3 as Currency], (currency: Currency) => ({
    money: { currency, amount: "1" },
  })),
  rule("money", [item.money], [undefined], (money: typeof item.money | undefined) => ({ money })),
  rule(
    "wallet_address",
    ["", payeeAddress],
    [long(65), `${payeeAddress.slice(0, -1)}u`, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"],
    (walletAddress: string) => ({ walletAddress }),
  ),
  rule("priority", [0, 1, 4], [5 as PayoutPriority, -1 as PayoutPriority], (priority: PayoutPriority) => ({
    priority,
  })),
  rule("idempotency_key", ["k", long(128)], ["", long(129), "with space", "ümlaut"], (idempotencyKey: string) => ({
    idempotencyKey,
  })),
];

const batchRules: readonly Rule<unknown, BatchOrder>[] = [
  rule("batch_id", ["", "batch_abc"], ["batch_a", `batch_${long(59)}`, "payout_abc"], (batchId: string) => ({
    batchId,
  })),
  rule("payout_requests", [1, 1000], [0, 1001], (count: number) => ({
    payoutRequests: Array.from({ length: count }, () => item),
  })),
  rule("payout_requests[1].node_id", nodeIds.inside, nodeIds.outside, (nodeId: string) => ({
    payoutRequests: [item, { ...item, nodeId }],
  })),
  rule("payout_requests[1].money.amount", amounts.inside, amounts.outside, (amount: string) => ({
    payoutRequests: [item, { ...item, money: { currency: Currency.USDT, amount } }],
  })),
  rule("payout_requests[0].money", [item.money], [undefined], (money: typeof item.money | undefined) => ({
    payoutRequests: [{ ...item, money }],
  })),
  rule("payout_requests[0].wallet_address", ["", payeeAddress], [long(65), long(34)], (walletAddress: string) => ({
    payoutRequests: [{ ...item, walletAddress }],
  })),
  rule(
    "notification_url",
    ["", "https://ledger.example/paid", "http://ledger:8080"],
    ["ledger.example", "ftp://ledger.example", "https://a b", `https://${long(2041)}`, "https://u:p@ledger.example"],
    (notificationUrl: string) => ({ notificationUrl }),
  ),
];

const cases = <Request>(rules: readonly Rule<unknown, Request>[]) =>
  rules.map((one): [string, Rule<unknown, Request>] => [one.field, one]);

async function expectNamed(call: PromiseLike<unknown>, field: string): Promise<void> {
  const refusal = await refusalOf(call);
  expect({ ...refusal, fields: refusal.fields.filter((name) => name.startsWith(field)).length > 0 }).toMatchObject({
    code: "InvalidArgument",
    reason: "4001",
    fields: true,
  });
}

/** Expects that the request is not refused for its shape. */
async function expectPassed(call: PromiseLike<unknown>): Promise<void> {
  const reason = await call.then(
    () => "none",
    (error: unknown) => toRefusal(error).reason,
  );
  expect(reason).not.toBe("4001");
}

describe("payouts", () => {
  test.each(cases(payoutRules))("%s", async (field, { inside, outside, request }) => {
    for (const value of inside) await expectPassed(world.payouts.createPayout({ ...order, ...request(value) }));
    for (const value of outside) {
      await expectNamed(world.payouts.createPayout({ ...order, ...request(value) }), field);
    }
  });

  test.each(cases(batchRules))("of a batch: %s", async (field, { inside, outside, request }) => {
    const batch = { payoutRequests: [item] };
    for (const value of inside) await expectPassed(world.payouts.createBatchPayout({ ...batch, ...request(value) }));
    for (const value of outside) {
      await expectNamed(world.payouts.createBatchPayout({ ...batch, ...request(value) }), field);
    }
  });

  test("ids are 8 to 64 characters behind their prefix", async () => {
    const { payouts } = world;
    const asks: [string, string, (id: string) => PromiseLike<unknown>][] = [
      ["payout", "payout_id", (payoutId) => payouts.getPayout({ payoutId })],
      ["payout", "payout_id", (payoutId) => payouts.cancelPayout({ payoutId })],
      ["payout", "payout_id", (payoutId) => payouts.retryPayout({ payoutId, idempotencyKey: "k" })],
      ["payout", "payout_id", (payoutId) => payouts.listPayoutEvents({ payoutId })],
      ["payout", "payout_id", (payoutId) => payouts.approvePayout({ payoutId })],
      ["payout", "payout_id", (payoutId) => payouts.rejectPayout({ payoutId, reason: "r" })],
      ["batch", "batch_id", (batchId) => payouts.getPayoutBatch({ batchId })],
      ["batch", "batch_id", (batchId) => payouts.cancelPayoutBatch({ batchId })],
      ["batch", "batch_id", (batchId) => payouts.approvePayout({ batchId })],
      ["batch", "batch_id", (batchId) => payouts.rejectPayout({ batchId, reason: "r" })],
      ["node", "node_id", (nodeId) => payouts.getNodeEarnings({ nodeId })],
    ];
    for (const [prefix, field, ask] of asks) {
      await expectPassed(ask(`${prefix}_${"x".repeat(63 - prefix.length)}`));
      for (const id of [`${prefix}_`, `${prefix}_${long(64 - prefix.length)}`, `${prefix}_a.bc`, `x${prefix}_abc`]) {
        await expectNamed(ask(id), field);
      }
    }
  });

  test("a payout or a batch is approved and rejected: exactly one of them", async () => {
    const { payouts } = world;
    const both = { payoutId: "payout_abc", batchId: "batch_abc" };
    for (const ids of [{}, both]) {
      await expectNamed(payouts.approvePayout(ids), "payout_id");
      await expectNamed(payouts.rejectPayout({ ...ids, reason: "r" }), "payout_id");
    }
  });

  test("notes and reasons", async () => {
    const { payouts } = world;
    const payoutId = "payout_abc";
    const transactionHash = `sandbox:${"0".repeat(64)}`;
    const asks: [string, boolean, (text: string) => PromiseLike<unknown>][] = [
      ["note", false, (note) => payouts.approvePayout({ payoutId, note })],
      ["reason", true, (reason) => payouts.rejectPayout({ payoutId, reason })],
      ["reason", true, (reason) => payouts.pausePayouts({ reason })],
      ["note", true, (note) => payouts.acceptTransfer({ transactionHash, note })],
    ];
    for (const [field, required, ask] of asks) {
      await expectPassed(ask(long(500)));
      await expectNamed(ask(long(501)), field);
      if (required) await expectNamed(ask(""), field);
      else await expectPassed(ask(""));
    }
    await expectPassed(payouts.acceptTransfer({ transactionHash: "a".repeat(64), note: "n" }));
    for (const hash of ["", "A".repeat(64), "a".repeat(63), "a".repeat(65), `other:${"a".repeat(64)}`]) {
      await expectNamed(payouts.acceptTransfer({ transactionHash: hash, note: "n" }), "transaction_hash");
    }
  });

  test("lists and windows", async () => {
    const { payouts } = world;
    for (const limit of [0, 1, 100]) {
      await expectPassed(payouts.listPayouts({ limit }));
      await expectPassed(payouts.listPayoutBatches({ limit }));
      await expectPassed(payouts.listPayoutEvents({ payoutId: "payout_abc", limit }));
    }
    for (const limit of [-1, 101]) {
      await expectNamed(payouts.listPayouts({ limit }), "limit");
      await expectNamed(payouts.listPayoutBatches({ limit }), "limit");
      await expectNamed(payouts.listPayoutEvents({ payoutId: "payout_abc", limit }), "limit");
    }
    for (const value of [0, -1, 10_001]) {
      await expectNamed(payouts.listPayouts({ position: { case: "page", value } }), "page");
      await expectNamed(payouts.listPayoutBatches({ position: { case: "page", value } }), "page");
    }
    await expectNamed(payouts.listPayouts({ status: 6 as PayoutStatus }), "status");
    await expectNamed(payouts.listPayouts({ currency: 3 as Currency }), "currency");
    await expectNamed(payouts.listPayouts({ nodeId: "node_" }), "node_id");
    await expectNamed(payouts.listPayouts({ batchId: "batch_" }), "batch_id");
    for (const seconds of [60n, 2_678_400n]) await expectPassed(payouts.getPayoutStatistics({ window: { seconds } }));
    for (const seconds of [59n, 2_678_401n, -1n]) {
      await expectNamed(payouts.getPayoutStatistics({ window: { seconds } }), "window");
    }
  });
});

describe("a node", () => {
  test.each(cases(nodeRules))("%s", async (field, { inside, outside, request }) => {
    for (const value of inside) await aNode(world.nodes, request(value));
    for (const value of outside) await expectNamed(aNode(world.nodes, request(value)), field);
  });

  test("hardware needs a processor and memory", async () => {
    const { cpu: _, ...withoutCpu } = aHardware();
    const { memory: __, ...withoutMemory } = aHardware();
    await expectNamed(aNode(world.nodes, { hardwareInfo: withoutCpu }), "hardware_info.cpu");
    await expectNamed(aNode(world.nodes, { hardwareInfo: withoutMemory }), "hardware_info.memory");
  });

  test("everything that is wrong is named at once", async () => {
    const { fields } = await refusalOf(world.nodes.createNode({ name: "x", location: { country: "x" } }));
    expect([...fields].sort()).toEqual(["location.country", "name", "node_type"]);
  });

  test("an update is held to the same rules", async () => {
    const { nodeId } = await aNode(world.nodes);
    const update = (node: Parameters<typeof world.nodes.updateNode>[0]["node"], path: string) =>
      world.nodes.updateNode({ node, updateMask: { paths: [path] } });
    await expectNamed(update({ nodeId, name: "x" }, "name"), "node.name");
    await expectNamed(update({ nodeId, location: { country: "x" } }, "location"), "node.location.country");
    await expectNamed(
      update({ nodeId, configuration: { maxSessions: 0 } }, "configuration"),
      "node.configuration.max_sessions",
    );
  });
});

describe("a pool", () => {
  test.each(cases(poolRules))("%s", async (field, { inside, outside, request }) => {
    for (const value of inside) await aPool(world.pools, request(value));
    for (const value of outside) await expectNamed(aPool(world.pools, request(value)), field);
  });

  test("priority and target size", async () => {
    const { poolId } = await aPool(world.pools);
    const { nodeId } = await aNode(world.nodes);
    for (const priority of [1, 100]) await world.pools.addNodeToPool({ poolId, nodeId, priority });
    for (const priority of [0, 101]) {
      await expectNamed(world.pools.addNodeToPool({ poolId, nodeId, priority }), "priority");
    }
    for (const targetSize of [0, 100]) await world.pools.scalePool({ poolId, targetSize });
    for (const targetSize of [-1, 1001])
      await expectNamed(world.pools.scalePool({ poolId, targetSize }), "target_size");
  });
});

describe("ids", () => {
  const shapes: [string, string, (id: string) => PromiseLike<unknown>, string][] = [
    ["node", "node_id", (nodeId) => world.nodes.getNode({ nodeId }), "5001"],
    ["pool", "pool_id", (poolId) => world.pools.getPool({ poolId }), "5002"],
  ];
  test.each(shapes)("%s ids are 8 to 64 characters behind their prefix", async (prefix, field, get, unknown) => {
    for (const id of [`${prefix}_abc`, `${prefix}_${long(59)}`, `${prefix}_A-z_0`]) {
      expect(await refusalOf(get(id))).toMatchObject({ code: "NotFound", reason: unknown });
    }
    for (const id of ["", `${prefix}_ab`, `${prefix}_${long(60)}`, `${prefix}_a.b`, `x${prefix}_abc`, aName("other")]) {
      await expectNamed(get(id), field);
    }
  });
});

describe("lists", () => {
  test("limit, page, order and selector", async () => {
    const { nodes } = world;
    for (const limit of [0, 1, 100]) await nodes.listNodes({ limit });
    for (const limit of [-1, 101]) await expectNamed(nodes.listNodes({ limit }), "limit");
    const page = (value: number, limit = 1) => nodes.listNodes({ limit, position: { case: "page", value } });
    for (const value of [1, 10_000]) await page(value);
    for (const value of [0, -1, 10_001]) await expectNamed(page(value), "page");
    await page(100, 100);
    await expectNamed(page(101, 100), "page");
    for (const orderBy of ["", "name", "created_at desc", "poot_score", "last_heartbeat desc"]) {
      await nodes.listNodes({ orderBy });
    }
    for (const orderBy of ["status", "name asc", "name desc "]) {
      await expectNamed(nodes.listNodes({ orderBy }), "order_by");
    }
    for (const labelSelector of ["a b", "=v", "a==b==c", "!", "a,,b"]) {
      await expectNamed(nodes.listNodes({ labelSelector }), "label_selector");
    }
  });
});

describe("enrolment and maintenance", () => {
  test("key, challenge, signature, reason", async () => {
    const { nodes } = world;
    const { nodeId } = await aNode(nodes);
    const bytes = (length: number) => new Uint8Array(length);
    for (const length of [0, 31, 33]) {
      await expectNamed(nodes.beginEnrollment({ nodeId, publicKey: bytes(length) }), "public_key");
    }
    const complete = (challenge: number, signature: number) =>
      nodes.completeEnrollment({ nodeId, challenge: bytes(challenge), signature: bytes(signature) });
    await expectNamed(complete(0, 64), "challenge");
    await expectNamed(complete(257, 64), "challenge");
    await expectNamed(complete(89, 63), "signature");
    await expectNamed(nodes.banNode({ nodeId, reason: "" }), "reason");
    await expectNamed(nodes.banNode({ nodeId, reason: long(501) }), "reason");
    await expectNamed(nodes.enterMaintenance({ nodeId, reason: long(501) }), "reason");
    await expectNamed(nodes.enterMaintenance({ nodeId, deadline: { seconds: 1n } }), "deadline");
  });
});
