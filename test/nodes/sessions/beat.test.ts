// The hand-written check of beats agrees with the constraints in the .proto for any beat.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator } from "@bufbuild/protovalidate";
import fc from "fast-check";
import { expect, test } from "vitest";
import { HeartbeatRequestSchema } from "../../../gen/lucid/node/v1/node_service_pb.js";
import { beatViolations } from "../../../src/nodes/sessions/beat.js";

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
const validator = createValidator();

const int64 = fc.oneof(
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.constantFrom(-1n, 0n, 1n, -(2n ** 63n), 2n ** 63n - 1n),
);
const percent = fc.oneof(
  fc.double(),
  fc.double({ min: 0, max: 100 }),
  fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 0, 100, 100.00000001, -1e-300),
);
/** Pairs of used and total bytes, many of them near the border where both are equal. */
const use = fc.oneof(
  fc.tuple(int64, int64),
  fc.tuple(fc.bigInt({ min: 0n, max: 5n }), fc.bigInt({ min: 0n, max: 5n })),
);
const anyMetrics = fc.record({
  cpuPercent: percent,
  networkRxBytes: int64,
  networkTxBytes: int64,
});
const metrics = fc.tuple(anyMetrics, use, use).map(([all, [memoryUsedBytes, memoryTotalBytes], disk]) => ({
  ...all,
  memoryUsedBytes,
  memoryTotalBytes,
  diskUsedBytes: disk[0],
  diskTotalBytes: disk[1],
}));
const sentAt = fc.record({ seconds: fc.bigInt({ min: -(2n ** 40n), max: 2n ** 40n }), nanos: fc.integer() });
const beats = fc.record({ sequence: int64, metrics, sentAt }, { requiredKeys: ["sequence"] });

test(`a beat is refused by the plain check exactly when the general validator refuses it, for the same fields (seed ${seed})`, () => {
  fc.assert(
    fc.property(beats, (value) => {
      const request = create(HeartbeatRequestSchema, { message: { case: "beat", value } });
      const general = validator.validate(HeartbeatRequestSchema, request);
      if (general.kind === "error") throw general.error;
      const expected = (general.violations ?? []).map(({ field }) => pathToString(field));
      const found = (beatViolations(request) ?? []).map(({ field }) => field);
      expect(found.sort()).toEqual(expected.sort());
    }),
    { seed, numRuns: 2_000 },
  );
});

test("anything but a beat is left to the general validator", () => {
  const messages: MessageInitShape<typeof HeartbeatRequestSchema>[] = [
    { message: { case: "hello", value: { nodeId: "node_abc" } } },
    { message: { case: "leave", value: {} } },
    { message: { case: "commandResult", value: {} } },
    {},
  ];
  for (const message of messages) expect(beatViolations(create(HeartbeatRequestSchema, message))).toBeUndefined();
});
