// Requests that no client should send: whole messages made from the descriptors, then damaged in one way or another, in
// each format and encoding. A seed replays the run. Pure but for compression.
import { brotliCompressSync, gzipSync } from "node:zlib";
import { create, type DescMethod, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import {
  BatchValidatePoOTRequestSchema,
  PoOTService,
  ValidatePoOTRequestSchema,
} from "../../../gen/lucid/node/v1/poot_service_pb.js";
import { bytesOf, fullMessage, jsonOf, pluralsOf, withElements, withElementsJson } from "./messages.js";

export interface Attempt {
  readonly method: DescMethod;
  readonly protocol: "grpc" | "grpc-web" | "connect" | "get";
  readonly json: boolean;
  /** The bytes for the wire, before any envelope. */
  readonly message: Buffer;
  readonly encoding: "gzip" | "br" | undefined;
  /** Whether the envelope or header says that the message is compressed. */
  readonly saysEncoding: boolean;
  readonly pieceBytes: number;
  /** What was done to it, for the report. */
  readonly what: string;
}

type Chance = () => number;

export function attemptFor(method: DescMethod, chance: Chance): Attempt {
  const pick = <T>(items: readonly T[]): T => items[Math.floor(chance() * items.length)] as T;
  const protocol = pick(["grpc", "grpc-web", "connect", "get"] as const);
  const json = chance() < 0.5;
  const isHeavy = method === batch && chance() < 0.1;
  const [how, make] = isHeavy ? (json ? heavyJson : heavyBinary) : pick(json ? jsonWays : binaryWays);
  const plain = make(method, chance);
  const encoding = pick([undefined, undefined, undefined, "gzip", "br"] as const);
  const packed = encoding === "gzip" ? gzipSync(plain) : encoding === "br" ? brotliCompressSync(plain, quick) : plain;
  const [damage, hurt] = pick(damages);
  return {
    ...{ method, protocol, json, encoding, message: hurt(packed, chance) },
    saysEncoding: chance() < 0.95,
    pieceBytes: pick([1, 7, 100, 1_400, 16_384, 16_384, 16_384]),
    what: `${how}, ${damage}`,
  };
}

const quick = { params: { 1: 1 } };

type Way = readonly [string, (method: DescMethod, chance: Chance) => Buffer];

const integer = (chance: Chance, max: number) => Math.floor(chance() * max);
/** Small most of the time, now and then as large as `max`. */
const skewed = (chance: Chance, max: number) => Math.floor(max ** chance());

const pluralOf = (method: DescMethod, chance: Chance) => {
  const plurals = pluralsOf(method.input);
  return plurals[integer(chance, plurals.length)];
};

const binaryWays: readonly Way[] = [
  ["full", ({ input }, chance) => Buffer.from(bytesOf(input, fullMessage(input, integer(chance, 4))))],
  ["empty", () => Buffer.alloc(0)],
  [
    "too many",
    (method, chance) => {
      const plural = pluralOf(method, chance);
      return plural ? Buffer.from(withElements(plural, skewed(chance, 120_000))) : Buffer.alloc(0);
    },
  ],
  [
    "unknown fields",
    (_method, chance) => {
      const field = new BinaryWriter()
        .tag(1_000 + integer(chance, 1_000), WireType.Varint)
        .uint32(1)
        .finish();
      return Buffer.concat(Array.from({ length: skewed(chance, 60_000) }, () => field));
    },
  ],
  [
    "groups",
    (_method, chance) => {
      const depth = skewed(chance, 50_000);
      return Buffer.concat([
        Buffer.alloc(2 * depth, Buffer.from([0x9b, 6])),
        Buffer.alloc(2 * depth, Buffer.from([0x9c, 6])),
      ]);
    },
  ],
  [
    "fields again",
    ({ input }, chance) => {
      const full = Buffer.from(bytesOf(input, fullMessage(input, 1)));
      return full.length === 0 ? full : Buffer.alloc(Math.min(200_000, full.length * skewed(chance, 2_000)), full);
    },
  ],
  [
    "noise",
    (_method, chance) => Buffer.from(Array.from({ length: skewed(chance, 2_000) }, () => integer(chance, 256))),
  ],
  ["zeros", (_method, chance) => Buffer.alloc(skewed(chance, 300_000))],
];

const jsonWays: readonly Way[] = [
  ["full", ({ input }, chance) => Buffer.from(jsonOf(input, fullMessage(input, integer(chance, 4))))],
  ["nothing", () => Buffer.from("{}")],
  [
    "too many",
    (method, chance) => {
      const plural = pluralOf(method, chance);
      return Buffer.from(plural ? withElementsJson(plural, skewed(chance, 60_000)) : "{}");
    },
  ],
  ["too deep", (_method, chance) => Buffer.from(`{"node_id":${"[".repeat(skewed(chance, 200_000))}`)],
  [
    "deep and closed",
    (_method, chance) => {
      const depth = skewed(chance, 60_000);
      return Buffer.from(`{"a":${'{"a":'.repeat(depth)}1${"}".repeat(depth)}}`);
    },
  ],
  [
    "unknown names",
    (_method, chance) =>
      Buffer.from(`{${Array.from({ length: 1 + skewed(chance, 10_000) }, (_, i) => `"n${i}":1`).join(",")}}`),
  ],
  [
    "wrong types",
    ({ input }, chance) => {
      const values = [
        '"x"',
        "1",
        "1e999",
        "-0",
        "null",
        "true",
        "[]",
        "{}",
        '[{"a":1}]',
        '"2024-13-45T99:00:00Z"',
        '"\\ud800"',
        "1.5e-400",
      ];
      const entries = input.fields.map(({ name }) => `"${name}":${values[integer(chance, values.length)]}`);
      return Buffer.from(`{${entries.join(",")}}`);
    },
  ],
  ["a long string", (_method, chance) => Buffer.from(`{"node_id":"${"\\u00e9".repeat(skewed(chance, 30_000))}"}`)],
  ["spaces", (_method, chance) => Buffer.from(" ".repeat(skewed(chance, 250_000)))],
  [
    "no JSON",
    (_method, chance) => Buffer.from(["", "{", "[]", "null", "1", '"', "{}{}", "\ufeff{}"][integer(chance, 8)] ?? ""),
  ],
];

/** The largest request of all: a thousand proofs, some ten megabytes. */
const batch = PoOTService.method.batchValidatePoOT;
const proof = (index: number, bytes: number) =>
  create(ValidatePoOTRequestSchema, {
    nodeId: `node_text${index}`,
    outputData: new Uint8Array(bytes).fill(index),
    nonce: `nonce-${index}-0123456789abcdef`,
    timestamp: { seconds: 1_700_000_000n, nanos: index },
  });
const heavyMessage = (bytes: number) =>
  create(BatchValidatePoOTRequestSchema, {
    validations: Array.from({ length: 1_000 }, (_, index) => proof(index, bytes)),
  });
const heavyBinary: Way = [
  "a full batch",
  () => Buffer.from(toBinary(BatchValidatePoOTRequestSchema, heavyMessage(10_300))),
];
/** The largest request in JSON, which is decoded in one piece. */
export const largestJson = (): string => jsonOf(BatchValidatePoOTRequestSchema, heavyMessage(3_700));
const heavyJson: Way = ["a full batch", () => Buffer.from(largestJson())];

const damages: readonly (readonly [string, (bytes: Buffer, chance: Chance) => Buffer])[] = [
  ["whole", (bytes) => bytes],
  ["whole", (bytes) => bytes],
  ["whole", (bytes) => bytes],
  ["cut", (bytes, chance) => bytes.subarray(0, integer(chance, bytes.length + 1))],
  [
    "with bytes changed",
    (bytes, chance) => {
      const changed = Buffer.from(bytes);
      for (let count = 1 + integer(chance, 4); count > 0 && changed.length > 0; count--) {
        changed[integer(chance, changed.length)] = integer(chance, 256);
      }
      return changed;
    },
  ],
  [
    "with something behind it",
    (bytes, chance) => Buffer.concat([bytes, Buffer.from([integer(chance, 256), integer(chance, 256)])]),
  ],
];
