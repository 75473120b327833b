// What every client must be able to do, in the words of protobuf's JSON with the names of the .proto files.
import { fromBinary, toJson } from "@bufbuild/protobuf";
import { BadRequestSchema, ErrorInfoSchema } from "../../../gen/google/rpc/error_details_pb.js";
import { within } from "../../support/world/until.js";
import type { Program } from "../process.js";

export type Json = Readonly<Record<string, unknown>>;
export type Headers = Readonly<Record<string, string>>;

export interface Kind {
  readonly name: string;
  /** Whether the client and its protocol can send and receive at the same time. */
  readonly streams: boolean;
  /** Answers a client that is ready to call the service at that port of this machine. */
  open(port: number): Promise<ForeignClient>;
}

export interface ForeignClient extends AsyncDisposable {
  /** A unary call of NodeService. */
  call(method: string, request: object, headers: Headers): Promise<Outcome>;
  /** Opens a heartbeat stream. */
  heartbeat(headers: Headers): Conversation;
}

export type Outcome = { readonly response: Json } | { readonly refusal: Refusal };

export interface Refusal {
  /** As gRPC spells it: NOT_FOUND. */
  readonly code: string;
  readonly message: string;
  readonly errorInfo: { readonly reason: string; readonly domain: string; readonly metadata: Headers } | undefined;
  /** Fields that BadRequest names. */
  readonly fields: readonly string[];
}

export interface Conversation {
  send(message: object): void;
  /** The next message of the service. @throws when the stream ends first */
  next(): Promise<Json>;
  /** Ends this side. Resolves when the service has ended its own OK, and rejects otherwise. */
  end(): Promise<void>;
}

/** A detail as JSON. The client's printer decides how the name of BadRequest's list is spelt. */
export interface Detail {
  readonly "@type": string;
  readonly reason?: string;
  readonly domain?: string;
  readonly metadata?: Headers;
  readonly field_violations?: readonly { readonly field: string }[];
  readonly fieldViolations?: readonly { readonly field: string }[];
}

/** A detail that the client left as bytes. */
export interface PackedDetail {
  readonly type: string;
  readonly bytes: Uint8Array;
}

/** gRPC's codes in the order of their numbers. */
export const codeNames = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
];

/** A refusal whose details are protobuf's JSON with an "@type". */
export function refusalOf(code: string, message: string, details: readonly Detail[]): Refusal {
  const find = (name: string) => details.find((detail) => detail["@type"].endsWith(`google.rpc.${name}`));
  const info = find("ErrorInfo");
  const violations = find("BadRequest");
  const { reason = "", domain = "", metadata = {} } = info ?? {};
  return {
    code,
    message,
    errorInfo: info && { reason, domain, metadata },
    fields: (violations?.field_violations ?? violations?.fieldViolations ?? []).map(({ field }) => field),
  };
}

export function unpack({ type, bytes }: PackedDetail): Detail {
  const schema = [ErrorInfoSchema, BadRequestSchema].find(({ typeName }) => type.endsWith(typeName));
  return { "@type": type, ...(schema && (toJson(schema, fromBinary(schema, bytes)) as object)) };
}

/** Messages that have come and wait to be taken, in order. */
export function createInbox<T>() {
  const waiting: T[] = [];
  let takers: (() => void)[] = [];
  let over: { readonly error: unknown } | undefined;
  const wake = () => {
    for (const taker of takers) taker();
    takers = [];
  };
  const take = async (): Promise<T> => {
    for (;;) {
      const item = waiting.shift();
      if (item !== undefined) return item;
      if (over !== undefined) throw over.error ?? new Error("the stream has ended OK");
      await new Promise<void>((resolve) => {
        takers.push(resolve);
      });
    }
  };
  return {
    put: (item: T): void => {
      waiting.push(item);
      wake();
    },
    /** Says that nothing more will come. Without an error the stream ended with OK. */
    finish: (error?: unknown): void => {
      over ??= { error };
      wake();
    },
    take: (): Promise<T> => within(take(), "a message comes"),
  };
}

/** A program that reads messages from its standard input and prints answers, each an indented JSON object. */
export function converse(program: Program): Conversation {
  let taken = 0;
  return {
    send: (message) => program.write(`${JSON.stringify(message)}\n`),
    next: async () => {
      const rest = () => program.stdout.slice(taken);
      const whole = await within(
        (async () => {
          for (;;) {
            const size = sizeOfObject(rest());
            if (size !== undefined) return size;
            await program.printed(new RegExp(`^[^]{${program.stdout.length + 1},}`));
          }
        })(),
        "a message is printed",
      );
      const text = rest().slice(0, whole);
      taken += whole;
      return JSON.parse(text);
    },
    end: async () => {
      program.closeInput();
      const { code, stderr } = await within(program.ended, "the program ends");
      if (code !== 0) throw new Error(`ended with ${code}: ${stderr}`);
    },
  };
}

/** Characters up to the end of the first JSON object; undefined while it is not complete. */
function sizeOfObject(text: string): number | undefined {
  // Braces show where an object ends: no string in these objects holds a brace.
  let depth = 0;
  for (const match of text.matchAll(/[{}]/g)) {
    depth += match[0] === "{" ? 1 : -1;
    if (depth === 0) return match.index + 1;
  }
  return undefined;
}
