// Bodies are scanned before they are decoded: what the contract allows passes, and anything else stops the scan early.
import { create, type DescMessage, fromBinary, fromJsonString } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  CreateNodeRequestSchema,
  GetNodeRequestSchema,
  HeartbeatRequestSchema,
  ListNodesRequestSchema,
  SetResourceThresholdsRequestSchema,
  UpdateNodeRequestSchema,
} from "../../../gen/lucid/node/v1/node_service_pb.js";
import { BatchValidatePoOTRequestSchema } from "../../../gen/lucid/node/v1/poot_service_pb.js";
import { services } from "../../../src/routes.js";
import { boundsOf, budgetOf } from "../../../src/rpc/body/bounds.js";
import { BodyFault } from "../../../src/rpc/body/fault.js";
import { scanJson } from "../../../src/rpc/body/json-scan.js";
import { scanProtobuf } from "../../../src/rpc/body/protobuf-scan.js";
import {
  bytesOf,
  fullMessage,
  jsonOf,
  pluralsOf,
  withElements,
  withElementsJson,
} from "../../support/clients/messages.js";

const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);

const inputs = new Map<string, DescMessage>(
  services.flatMap(({ methods }) => methods.map(({ input }): [string, DescMessage] => [input.typeName, input])),
);
const text = (json: string) => Buffer.from(json, "utf8");

function faultOf(scan: () => void): BodyFault | undefined {
  try {
    scan();
  } catch (error) {
    if (error instanceof BodyFault) return error;
    throw error;
  }
  return undefined;
}

describe("every request type", () => {
  test.each([...inputs.values()])("passes full, in both formats: $typeName", (desc) => {
    for (const count of [0, 1, 3]) {
      const message = fullMessage(desc, count);
      expect(faultOf(() => scanProtobuf(boundsOf(desc), bytesOf(desc, message)))).toBeUndefined();
      expect(faultOf(() => scanJson(boundsOf(desc), text(jsonOf(desc, message))))).toBeUndefined();
    }
  });

  const plurals = [...inputs.values()].flatMap((desc) =>
    pluralsOf(desc).map((plural) => ({
      desc,
      plural,
      name: [...plural.path, plural.field].map((f) => f.name).join("."),
    })),
  );
  test("has plural fields to walk", () => {
    expect(plurals.map(({ name }) => name)).toEqual(
      expect.arrayContaining([
        "labels",
        "hardware_info.storage",
        "hello.hardware_info.network",
        "validations",
        "node_ids",
      ]),
    );
  });

  test.each(plurals)("counts its plural field before decoding: $desc.typeName $name", ({ desc, plural, name }) => {
    const bound = boundsOf(desc);
    const max =
      [...plural.path, plural.field].reduce((at, field) => at.byNumber.get(field.number)?.message ?? at, bound) &&
      maxOf(desc, plural);
    expect(faultOf(() => scanProtobuf(bound, withElements(plural, max)))).toBeUndefined();
    for (const count of [max + 1, 100_000]) {
      const started = performance.now();
      const fault = faultOf(() => scanProtobuf(bound, withElements(plural, count)));
      expect(fault).toMatchObject({ shape: true, field: name.replaceAll(/\[\d+\]/g, "") });
      const json = faultOf(() => scanJson(bound, text(withElementsJson(plural, count))));
      expect(json?.shape).toBe(true);
      expect(performance.now() - started).toBeLessThan(2_000);
    }
  });

  function maxOf(desc: DescMessage, { field, path }: (typeof plurals)[number]["plural"]): number {
    const owner = path.reduce((at, step) => at.byNumber.get(step.number)?.message ?? at, boundsOf(desc));
    return owner.byNumber.get(field.number)?.countMax ?? 0;
  }

  test.each([...inputs.values()])("bounds the fields that nobody knows, and those sent again: $typeName", (desc) => {
    const bound = boundsOf(desc);
    const unknown = new BinaryWriter().tag(536_870_911, WireType.Varint).uint32(1).finish();
    const repeatUnknown = (count: number) => Buffer.concat(Array.from({ length: count }, () => unknown));
    expect(faultOf(() => scanProtobuf(bound, repeatUnknown(200)))).toBeUndefined();
    expect(faultOf(() => scanProtobuf(bound, repeatUnknown(budgetOf(bound) + 1)))?.shape).toBe(true);
    for (const field of desc.fields.filter(({ message, fieldKind }) => message && fieldKind === "message")) {
      const again = new BinaryWriter().tag(field.number, WireType.LengthDelimited).bytes(new Uint8Array()).finish();
      const many = Buffer.concat(Array.from({ length: budgetOf(bound) + 1 }, () => again));
      expect(faultOf(() => scanProtobuf(bound, many))?.shape).toBe(true);
    }
  });
});

describe(`a protobuf body (seed ${seed})`, () => {
  const bound = boundsOf(CreateNodeRequestSchema);
  test.each([
    ["cut in a tag", [0x80]],
    ["cut in a length", [0x0a, 0x80]],
    ["cut in a string", [0x0a, 5, 0x61]],
    ["cut in a message", [0x1a, 4, 0x0a, 5, 0x61, 0x62]],
    ["field number 0", [0x00, 1]],
    ["wire type 6", [0x0e, 1]],
    ["wire type 7", [0x0f, 1]],
    ["an end of no group", [0x0c]],
    ["a group that ends another", [0x9b, 6, 0xa4, 6]],
    ["a group without an end", [0x9b, 6]],
    ["a number of eleven bytes", [0x10, ...Array(10).fill(0x80), 1]],
    ["a length beyond 32 bits", [0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f]],
    ["a string that is a number", [0x08, 1]],
    ["a string that is no UTF-8", [0x0a, 2, 0xc3, 0x28]],
    ["a string with half a surrogate pair", [0x0a, 3, 0xed, 0xa0, 0x80]],
  ])("is refused as unreadable: %s", (_what, bytes) => {
    expect(faultOf(() => scanProtobuf(bound, Uint8Array.from(bytes)))).toMatchObject({ shape: false });
  });

  test("groups of newer peers are passed over, to a depth", () => {
    const nested = (depth: number) =>
      Uint8Array.from([...Array(depth).fill([0x9b, 6]).flat(), ...Array(depth).fill([0x9c, 6]).flat()]);
    expect(faultOf(() => scanProtobuf(bound, nested(16)))).toBeUndefined();
    expect(faultOf(() => scanProtobuf(bound, nested(17)))).toMatchObject({ shape: false });
  });

  test("whatever passes the scan, the decoder takes", () => {
    const types = [...inputs.values()];
    fc.assert(
      fc.property(
        fc.constantFrom(...types),
        fc.uint8Array({ maxLength: 40 }),
        fc.nat(),
        fc.nat(255),
        (desc, noise, at, byte) => {
          const full = bytesOf(desc, fullMessage(desc, 2));
          const hurt = full.length === 0 ? noise : Uint8Array.from(full);
          if (full.length > 0) hurt[at % full.length] = byte;
          for (const bytes of [noise, hurt, hurt.subarray(0, at % (hurt.length + 1))]) {
            if (faultOf(() => scanProtobuf(boundsOf(desc), bytes)) === undefined) fromBinary(desc, bytes);
          }
        },
      ),
      { seed, numRuns: 3_000 },
    );
  });
});

describe(`a JSON body (seed ${seed})`, () => {
  test.each<[string, DescMessage, string, string, RegExp]>([
    ["a name that nobody knows", ListNodesRequestSchema, '{"stat":"NODE_STATUS_ACTIVE"}', "stat", /has .*status/],
    [
      "a former name of an enum value",
      ListNodesRequestSchema,
      '{"status":"INACTIVE"}',
      "status",
      /NODE_STATUS_INACTIVE/,
    ],
    [
      "an enum value in lower case",
      ListNodesRequestSchema,
      '{"status":"node_status_active"}',
      "status",
      /NODE_STATUS_ACTIVE/,
    ],
    [
      "a unit left out",
      SetResourceThresholdsRequestSchema,
      '{"thresholds":{"cpu_warn":40}}',
      "thresholds.cpu_warn",
      /cpu_warn_percent/,
    ],
    [
      "deep inside",
      CreateNodeRequestSchema,
      '{"hardware_info":{"storage":[{},{"size":1}]}}',
      "hardware_info.storage[1].size",
      /total_bytes/,
    ],
    ["a name of a prototype", GetNodeRequestSchema, '{"__proto__":{}}', "__proto__", /node_id/],
    ["an escaped name", GetNodeRequestSchema, '{"\\u006eode":"x"}', "node", /node_id/],
    ["one field twice", GetNodeRequestSchema, '{"node_id":"a","node_id":"b"}', "node_id", /twice/],
    ["one field in both spellings", GetNodeRequestSchema, '{"node_id":"a","nodeId":"b"}', "node_id", /twice/],
    [
      "too many paths in a mask",
      UpdateNodeRequestSchema,
      `{"update_mask":"${"name,".repeat(5_000)}name"}`,
      "update_mask",
      /no more than/,
    ],
  ])("names what nobody would understand: %s", (_what, desc, json, field, description) => {
    const fault = faultOf(() => scanJson(boundsOf(desc), text(json)));
    expect(fault).toMatchObject({ shape: true, field });
    expect(fault?.message).toMatch(description);
  });

  test.each([
    ["both spellings of a name", '{"nodeId":"node_1"}'],
    ["escapes", '{"node_id":"\\u006e\\ud83d\\ude00\\"\\\\\\n"}'],
    ["a byte order mark", '\uFEFF{"node_id":"x"}'],
    ["spaces", ' \r\n\t{ "node_id" : "x" } \n'],
    ["null for a field", '{"node_id":null}'],
    ["nothing", "{}"],
  ])("passes: %s", (_what, json) => {
    expect(faultOf(() => scanJson(boundsOf(GetNodeRequestSchema), text(json)))).toBeUndefined();
    fromJsonString(GetNodeRequestSchema, json.replace("\uFEFF", ""));
  });

  test.each([
    ["nothing at all", ""],
    ["half an object", '{"node_id":'],
    ["a string without an end", '{"node_id":"x'],
    ["an escape without an end", '{"node_id":"\\'],
    ["two messages", "{}{}"],
    ["a comma too many", '{"node_id":"x",}'],
    ["a name without quotes", '{node_id:"x"}'],
    ["half a surrogate pair", '{"node_id":"\\ud83d"}'],
    ["the other half", '{"node_id":"\\ude00x"}'],
  ])("is refused as unreadable: %s", (_what, json) => {
    expect(faultOf(() => scanJson(boundsOf(GetNodeRequestSchema), text(json)))).toMatchObject({ shape: false });
  });

  test("is refused when it is no UTF-8", () => {
    const body = Buffer.concat([text('{"node_id":"'), Buffer.from([0xff]), text('"}')]);
    expect(faultOf(() => scanJson(boundsOf(GetNodeRequestSchema), body))).toMatchObject({ shape: false });
  });

  test.each([
    ["arrays within arrays", "[".repeat(5_000_000)],
    ["objects within objects", '{"node_id":'.repeat(400_000)],
    ["empty values", `{"node_id":[${"0,".repeat(2_000_000)}0]}`],
    ["names", `{${'"a":0,'.repeat(800_000)}"a":0}`],
    ["escapes", `{"node_id":"${"\\n".repeat(2_500_000)}"}`],
    ["escapes far apart", `{"node_id":"${"\\nab".repeat(1_200_000)}"}`],
    ["short strings", `{"node_id":[${'"",'.repeat(1_600_000)}""]}`],
    ["quotes", '"'.repeat(5_000_000)],
    ["backslashes", `{"node_id":"${"\\\\".repeat(2_500_000)}`],
    ["spaces", " ".repeat(5_000_000)],
    ["digits", `{"node_id":${"1".repeat(5_000_000)}}`],
  ])("costs time in line with its bytes: five megabytes of %s", (_what, json) => {
    const body = text(json);
    const before = process.threadCpuUsage();
    faultOf(() => scanJson(boundsOf(GetNodeRequestSchema), body));
    expect(process.threadCpuUsage(before).user / 1_000).toBeLessThan(150);
  });

  test("whatever passes the scan and the parser means the same to both", () => {
    const desc = HeartbeatRequestSchema;
    fc.assert(
      fc.property(fc.json({ maxDepth: 3 }), fc.nat(), fc.string({ maxLength: 3 }), (noise, at, piece) => {
        const full = jsonOf(desc, fullMessage(desc, 2));
        const cut = at % full.length;
        for (const json of [noise, full.slice(0, cut) + piece + full.slice(cut + piece.length)]) {
          const fault = faultOf(() => scanJson(boundsOf(desc), text(json)));
          // The scan takes all that the strict parser takes, unless it counts too many or finds a field twice.
          if (fault !== undefined && !fault.shape) expect(() => JSON.parse(json)).toThrow();
        }
      }),
      { seed, numRuns: 3_000 },
    );
  });
});

test("texts far beyond their rule are refused before a validator reads them, the longest that it allows passes", () => {
  const long = (count: number) =>
    create(BatchValidatePoOTRequestSchema, { validations: [{ nodeId: `node_${"a".repeat(count)}` }] });
  const bound = boundsOf(BatchValidatePoOTRequestSchema);
  for (const [count, passes] of [
    [59, true],
    [80, true],
    [4_000_000, false],
  ] as const) {
    const message = long(count);
    const expected = passes ? undefined : { shape: true };
    const [binary, json] = [
      faultOf(() => scanProtobuf(bound, bytesOf(BatchValidatePoOTRequestSchema, message))),
      faultOf(() => scanJson(bound, text(jsonOf(BatchValidatePoOTRequestSchema, message)))),
    ];
    if (expected === undefined) expect([binary, json]).toEqual([undefined, undefined]);
    else for (const fault of [binary, json]) expect(fault).toMatchObject(expected);
  }
  const widest = `{"name":"${"\\u00e9".repeat(100)}"}`;
  expect(faultOf(() => scanJson(boundsOf(CreateNodeRequestSchema), text(widest)))).toBeUndefined();
});

test("a batch of as many proofs as may be passes, and one more is counted", () => {
  const bound = boundsOf(BatchValidatePoOTRequestSchema);
  const [plural] = pluralsOf(BatchValidatePoOTRequestSchema);
  if (!plural) throw new Error("no plural field");
  expect(faultOf(() => scanProtobuf(bound, withElements(plural, 1_000)))).toBeUndefined();
  expect(faultOf(() => scanProtobuf(bound, withElements(plural, 5_200_000)))?.message).toBe(
    "must contain no more than 1000 item(s)",
  );
});
