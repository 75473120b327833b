// The bounds of a request, read once from the descriptors: how many elements each field may have, and how many fields
// in all. The scans of bodies check them before any object is made.
import {
  type DescEnum,
  type DescField,
  type DescMessage,
  getOption,
  hasOption,
  type ScalarType as Scalar,
  ScalarType,
} from "@bufbuild/protobuf";
import { field as fieldRules } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

export interface FieldBound {
  /** As in the .proto. */
  readonly name: string;
  readonly jsonName: string;
  /** Its index among the fields of its message, from 0. */
  readonly index: number;
  /** Elements of a repeated field or pairs of a map; undefined for a singular field. */
  readonly countMax: number | undefined;
  /**
   * The most bytes of an element: the UTF-8 size of its longest allowed text, doubled, so that the validator reports texts
   * just above the limit. Undefined if the contract states no limit.
   */
  readonly bytesMax: number | undefined;
  /** Whether the rule counts pairs; the error then uses the validator's word. */
  readonly map: boolean;
  /** The scalar type of the field or its elements; undefined for messages, enums and maps. */
  readonly scalar: Scalar | undefined;
  readonly enumeration: DescEnum | undefined;
  /** The message type of the field, of its elements, or of a map's entries. */
  readonly message: MessageBound | undefined;
  /** 0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes. */
  readonly wireType: number;
}

export interface MessageBound {
  readonly typeName: string;
  readonly fields: readonly FieldBound[];
  readonly byNumber: ReadonlyMap<number, FieldBound>;
  /** By both spellings that JSON allows. */
  readonly byName: ReadonlyMap<string, FieldBound>;
  /** Whether any field is repeated, so that elements must be counted. */
  readonly counts: boolean;
  /** Fields on the wire of a message that is full, including its nested messages. */
  readonly fieldsMax: number;
  /** Nesting depth of messages, this one included. */
  readonly depth: number;
}

/** The most elements of a repeated field without its own rule, such as the paths of a field mask. */
const unstatedMax = 128;
/** Fields allowed beyond the contract: fields sent twice, and fields of newer peers. */
const slackFields = 256;

/** The most fields of a whole body. */
export const budgetOf = (bound: MessageBound): number => 2 * bound.fieldsMax + slackFields;

const known = new WeakMap<DescMessage, MessageBound>();

/** The table of a message type. @throws Error for a type that contains itself, which no request of the contract does */
export function boundsOf(desc: DescMessage): MessageBound {
  return boundOf(desc, []);
}

function boundOf(desc: DescMessage, within: readonly DescMessage[]): MessageBound {
  const found = known.get(desc);
  if (found) return found;
  if (within.includes(desc)) throw new Error(`${desc.typeName} contains itself: what it holds has no bound`);
  const path = [...within, desc];
  const fields = desc.fields.map((field, index) => fieldBound(field, index, path));
  const bound: MessageBound = {
    typeName: desc.typeName,
    fields,
    byNumber: new Map(desc.fields.map((field, at) => [field.number, fields[at] as FieldBound])),
    byName: new Map(fields.flatMap((field) => [field.name, field.jsonName].map((name) => [name, field] as const))),
    counts: fields.some(({ countMax }) => countMax !== undefined),
    fieldsMax: fields.reduce((sum, field) => sum + (field.countMax ?? 1) * (1 + (field.message?.fieldsMax ?? 0)), 0),
    depth: 1 + Math.max(0, ...fields.map(({ message }) => message?.depth ?? 0)),
  };
  known.set(desc, bound);
  return bound;
}

function fieldBound(field: DescField, index: number, path: readonly DescMessage[]): FieldBound {
  const named = {
    ...{ name: field.name, jsonName: field.jsonName, index, map: field.fieldKind === "map" },
    bytesMax: bytesMaxOf(field),
  };
  switch (field.fieldKind) {
    case "scalar":
      return { ...named, ...plain, scalar: field.scalar, wireType: wireTypeOf(field.scalar) };
    case "enum":
      return { ...named, ...plain, enumeration: field.enum, wireType: 0 };
    case "message":
      return { ...named, ...plain, message: boundOf(field.message, path), wireType: 2 };
    case "list":
      return {
        ...named,
        countMax: countMaxOf(field),
        scalar: field.listKind === "scalar" ? field.scalar : undefined,
        enumeration: field.listKind === "enum" ? field.enum : undefined,
        message: field.listKind === "message" ? boundOf(field.message, path) : undefined,
        wireType: field.listKind === "scalar" ? wireTypeOf(field.scalar) : field.listKind === "enum" ? 0 : 2,
      };
    case "map":
      return {
        ...named,
        countMax: countMaxOf(field),
        scalar: undefined,
        enumeration: undefined,
        message: entryBound(field, path),
        wireType: 2,
      };
    default:
      return field satisfies never;
  }
}

const plain = { countMax: undefined, scalar: undefined, enumeration: undefined, message: undefined };

/** A map's entry on the wire: a message of key = 1 and value = 2. */
function entryBound(field: DescField & { fieldKind: "map" }, path: readonly DescMessage[]): MessageBound {
  const key: FieldBound = {
    ...plain,
    ...{ name: "key", jsonName: "key", index: 0, map: false, bytesMax: undefined },
    scalar: field.mapKey,
    wireType: wireTypeOf(field.mapKey),
  };
  const value: FieldBound = {
    ...plain,
    ...{ name: "value", jsonName: "value", index: 1, map: false, bytesMax: undefined },
    scalar: field.mapKind === "scalar" ? field.scalar : undefined,
    enumeration: field.mapKind === "enum" ? field.enum : undefined,
    message: field.mapKind === "message" ? boundOf(field.message, path) : undefined,
    wireType: field.mapKind === "scalar" ? wireTypeOf(field.scalar) : field.mapKind === "enum" ? 0 : 2,
  };
  return {
    typeName: `${field.parent.typeName}.${field.name}`,
    fields: [key, value],
    byNumber: new Map([
      [1, key],
      [2, value],
    ]),
    byName: new Map(),
    counts: false,
    fieldsMax: 2 + (value.message?.fieldsMax ?? 0),
    depth: 1 + (value.message?.depth ?? 0),
  };
}

/** The max_items or max_pairs of the field in the .proto. */
function countMaxOf(field: DescField): number {
  if (!hasOption(field, fieldRules)) return unstatedMax;
  const { type } = getOption(field, fieldRules);
  const stated = type.case === "repeated" ? type.value.maxItems : type.case === "map" ? type.value.maxPairs : 0n;
  return stated > 0n ? Number(stated) : unstatedMax;
}

/** From max_len, max_bytes or len of a string or bytes field, or of its elements. */
function bytesMaxOf(field: DescField): number | undefined {
  if (!hasOption(field, fieldRules)) return undefined;
  const { type } = getOption(field, fieldRules);
  const own = type.case === "repeated" ? type.value.items?.type : type;
  if (own?.case === "string") {
    const { maxBytes, maxLen, len } = own.value;
    const bytes = maxBytes > 0n ? maxBytes : utf8BytesMax * (maxLen > 0n ? maxLen : len);
    return bytes > 0n ? 2 * Number(bytes) : undefined;
  }
  if (own?.case !== "bytes") return undefined;
  const bytes = own.value.maxLen > 0n ? own.value.maxLen : own.value.len;
  return bytes > 0n ? 2 * Number(bytes) : undefined;
}

/** The most bytes of one character. */
const utf8BytesMax = 4n;

// https://protobuf.dev/programming-guides/encoding/#structure
function wireTypeOf(scalar: Scalar): number {
  switch (scalar) {
    case ScalarType.DOUBLE:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return 1;
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return 5;
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return 2;
    default:
      return 0;
  }
}
