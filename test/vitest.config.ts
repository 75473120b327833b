import { defineConfig } from "vitest/config";

export const root = new URL("..", import.meta.url).pathname;
const shared = { root, testTimeout: 30_000, hookTimeout: 60_000, pool: "forks" } as const;

/** Tests that talk to the service as a whole: it must behave the same on every engine. */
const throughTheService = [
  "test/{access,admin,agent,client,nodes,pools,poot,resources}/**/*.test.ts",
  "test/payouts/handler*.test.ts",
  "test/payouts/gateway/sandbox.test.ts",
  "test/contract-rules.test.ts",
  "test/conventions/time.test.ts",
];
/** Tests that need a MongoDB replica set, and further tests that run if a MongoDB is given. */
const atGivenMongo = [
  "test/mongodb/*.test.ts",
  ...(process.env.MONGODB_TEST_URL === undefined ? [] : ["test/storage/{mongo/store,plans,differential}.test.ts"]),
];
/** Fleets of processes that are killed, stopped and timed: one file at a time, so that they do not slow each other. */
const fleets = ["test/e2e/{replicas,faults,payouts}-*.test.ts", "test/e2e/floods.test.ts"];

/** Left out of `make quick`: tests that need a build or another program, and the slowest. A pattern for each file. */
export const notQuick = [
  ...["test/e2e/**", "test/bench.test.ts", "test/mongodb/**", "test/coordination/redis/**", "test/storage/mongo/**"],
  ...["test/storage/plans.test.ts", "test/storage/differential.test.ts", "test/poot/crash-mongo.test.ts"],
  // Several replicas, processes that are killed, floods, and machines and services that misbehave.
  ...["test/nodes/replicas.test.ts", "test/poot/replicas.test.ts", "test/payouts/replicas.test.ts"],
  ...["test/poot/crash.test.ts", "test/storage/sqlite/store-crash.test.ts", "test/payouts/{chaos,crashes}.test.ts"],
  ...["test/port/answers.test.ts", "test/port/connections.test.ts", "test/rpc/body/reader.test.ts"],
  ...["test/agent/agent-malicious-service.test.ts", "test/agent/agent-slow-machine.test.ts"],
  ...["test/agent/service-time.test.ts", "test/machine/look.test.ts"],
  // Payouts in a world where everything goes wrong.
  ...["test/payouts/chaos.test.ts", "test/payouts/matching.test.ts"],
  // Payouts that are waited for on the sandbox's chain, and the sandbox's own.
  ...["test/payouts/handler-{approvals,batches,cancel,doubt,limits,orders,story}.test.ts"],
  "test/payouts/gateway/sandbox.test.ts",
  // Long scenarios of heartbeat streams and pools (T1 to T34).
  ...["test/nodes/**/scenarios-*.test.ts", "test/pools/disruption.test.ts"],
];
/**
 * What `make quick` runs; its config is test/vitest.quick.config.ts. Files share a process, or a third of
 * the time would go into loading the same modules again. In `make test` each file has a process of its own.
 */
export const quick = {
  ...shared,
  name: "quick",
  maxWorkers: 2,
  include: ["test/**/*.test.ts"],
  exclude: notQuick,
  isolate: false,
  reporters: ["default", "./test/support/summary.ts"],
};

export default defineConfig({
  root,
  test: {
    reporters: ["default", "./test/support/summary.ts"],
    maxWorkers: 2,
    globalSetup: ["test/support/engines/servers.ts"],
    projects: [
      {
        test: {
          ...shared,
          name: "embedded",
          include: ["test/**/*.test.ts"],
          exclude: [...fleets, "test/mongodb/*.test.ts"],
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...shared,
          name: "mongodb and redis",
          include: throughTheService,
          // Fleets on one test clock share the embedded store in either project.
          // Tests that open engines of their own, or use a service that is not ours, need no second run.
          exclude: [
            "test/{nodes,payouts,poot}/replicas.test.ts",
            "test/poot/crash*.test.ts",
            "test/agent/{agent-malicious-service,agent-slow-machine,service-time}.test.ts",
            "test/nodes/sessions/outbox-unread.test.ts",
          ],
          env: { LUCID_TEST_ENGINES: "production" },
          // The MongoDB of the tests may be a far slower stand-in, and miss a limit that is meant for other faults.
          // The report names each test that needed a second try.
          testTimeout: 180_000,
          retry: 1,
          sequence: { groupOrder: 1 },
        },
      },
      // A second try here, too: these tests time a dozen processes on two cores.
      { test: { ...shared, name: "fleets", include: fleets, maxWorkers: 1, retry: 1, sequence: { groupOrder: 2 } } },
      { test: { ...shared, name: "given mongodb", include: atGivenMongo, maxWorkers: 1, sequence: { groupOrder: 3 } } },
    ],
  },
});
