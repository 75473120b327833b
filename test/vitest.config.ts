import { defineConfig } from "vitest/config";

export const root = new URL("..", import.meta.url).pathname;
const shared = { root, testTimeout: 30_000, hookTimeout: 60_000, pool: "forks" } as const;

/** What talks to the service as a whole: it must be the same on every engine. */
const throughTheService = [
  "test/{access,admin,agent,client,nodes,pools,poot,resources}/**/*.test.ts",
  "test/contract-rules.test.ts",
  "test/conventions/time.test.ts",
];
/** What only a MongoDB replica set can settle, and what else a MongoDB that is given is tried by. */
const atGivenMongo = [
  "test/mongodb/*.test.ts",
  ...(process.env.MONGODB_TEST_URL === undefined ? [] : ["test/storage/{mongo/store,plans,differential}.test.ts"]),
];
/** Fleets of processes that are killed, stopped and timed: one file at a time, or they would measure each other. */
const fleets = ["test/e2e/{replicas,faults}-*.test.ts", "test/e2e/floods.test.ts"];

/** What `make quick` leaves out: what needs a build or another program, and what takes longest. A pattern for each file. */
export const notQuick = [
  ...["test/e2e/**", "test/bench.test.ts", "test/mongodb/**", "test/coordination/redis/**", "test/storage/mongo/**"],
  ...["test/storage/plans.test.ts", "test/storage/differential.test.ts", "test/poot/crash-mongo.test.ts"],
  // Several replicas, processes that are killed, floods, and machines and services that misbehave.
  ...["test/nodes/replicas.test.ts", "test/poot/replicas.test.ts"],
  ...["test/poot/crash.test.ts", "test/storage/sqlite/store-crash.test.ts"],
  ...["test/port/answers.test.ts", "test/port/connections.test.ts", "test/rpc/body/reader.test.ts"],
  ...["test/agent/agent-malicious-service.test.ts", "test/agent/agent-slow-machine.test.ts"],
  ...["test/agent/service-time.test.ts", "test/machine/look.test.ts"],
  // What heartbeat streams and pools go through, told in long stories (T1 to T34).
  ...["test/nodes/**/scenarios-*.test.ts", "test/pools/disruption.test.ts"],
];
/**
 * What `make quick` runs; its config is test/vitest.quick.config.ts. Files share a process, for a third of the time is
 * spent on loading the same modules again otherwise. In `make test` each file has a process of its own.
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
          // Several replicas under one moved clock share the embedded store in either case.
          // What opens engines of its own, or meets a service that is none of ours, needs no second turn.
          exclude: [
            "test/{nodes,poot}/replicas.test.ts",
            "test/poot/crash*.test.ts",
            "test/agent/{agent-malicious-service,agent-slow-machine,service-time}.test.ts",
            "test/nodes/sessions/outbox-unread.test.ts",
          ],
          env: { LUCID_TEST_ENGINES: "production" },
          // The MongoDB of the tests may be one that is far slower than MongoDB, and then late for a limit that means
          // something else; the report says which test needed a second try.
          testTimeout: 180_000,
          retry: 1,
          sequence: { groupOrder: 1 },
        },
      },
      // Of what is timed across a dozen processes on two cores, too.
      { test: { ...shared, name: "fleets", include: fleets, maxWorkers: 1, retry: 1, sequence: { groupOrder: 2 } } },
      { test: { ...shared, name: "given mongodb", include: atGivenMongo, maxWorkers: 1, sequence: { groupOrder: 3 } } },
    ],
  },
});
