// Messages made from descriptors: full ones, as large as the contract allows, and some with too much of something.
import { create, type DescField, type DescMessage, type Message, toBinary, toJson } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

/** A field that can hold many, and how to get there from the request. */
export interface Plural {
  readonly field: DescField & { fieldKind: "list" | "map" };
  /** The fields that lead to it, outermost first; messages on the way that are plural themselves hold one element. */
  readonly path: readonly DescField[];
}

export function pluralsOf(desc: DescMessage, path: readonly DescField[] = []): Plural[] {
  return desc.fields.flatMap((field) => {
    const own = field.fieldKind === "list" || field.fieldKind === "map" ? [{ field, path }] : [];
    return field.message ? [...own, ...pluralsOf(field.message, [...path, field])] : own;
  });
}

/** A request on the wire that holds so many empty elements in the plural field, and nothing else. */
export function withElements({ field, path }: Plural, count: number): Uint8Array {
  const element = new BinaryWriter().tag(field.number, WireType.LengthDelimited).bytes(new Uint8Array()).finish();
  const many = Buffer.alloc(element.length * count);
  for (let index = 0; index < count; index++) many.set(element, index * element.length);
  return path.reduceRight<Uint8Array>(
    (inner, { number }) => new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(inner).finish(),
    many,
  );
}

/** The same in JSON. */
export function withElementsJson({ field, path }: Plural, count: number): string {
  const empty = field.fieldKind === "map" ? (index: number) => `"k${index}":""` : () => (field.message ? "{}" : '""');
  const inside = Array.from({ length: count }, (_, index) => empty(index)).join(",");
  const many = field.fieldKind === "map" ? `{${inside}}` : `[${inside}]`;
  return [...path, field].reduceRight((inner, step, at) => {
    const value = at < path.length && step.fieldKind === "list" ? `[${inner}]` : inner;
    return `{"${step.name}":${value}}`;
  }, many);
}

/** A message with every field set, plural ones with so many elements. */
export function fullMessage(desc: DescMessage, count: number): Message {
  const message = reflect(desc);
  for (const field of desc.fields) {
    if (field.oneof && message.oneofCase(field.oneof)) continue;
    switch (field.fieldKind) {
      case "scalar":
        message.set(field, message.get(field) === undefined ? 1 : sample(message.get(field)));
        break;
      case "message":
        message.set(field, reflect(field.message, fullMessage(field.message, count) as never));
        break;
      case "list":
        for (let index = 0; index < count; index++) {
          const element =
            field.listKind === "message"
              ? reflect(field.message, fullMessage(field.message, 1) as never)
              : field.listKind === "enum"
                ? 1
                : `e${index}`;
          message.get(field).add(element as never);
        }
        break;
      case "map":
        for (let index = 0; index < count; index++) message.get(field).set(`k${index}`, `v${index}`);
        break;
      case "enum":
        message.set(field, 1);
    }
  }
  return message.message;
}

function sample(zero: unknown): unknown {
  if (typeof zero === "string") return "text";
  if (typeof zero === "boolean") return true;
  if (typeof zero === "bigint") return 7n;
  if (zero instanceof Uint8Array) return Uint8Array.of(1, 2, 3);
  return 7;
}

export const bytesOf = (desc: DescMessage, message: Message) => toBinary(desc, message as never);
export const jsonOf = (desc: DescMessage, message: Message) =>
  JSON.stringify(toJson(desc, message as never, { useProtoFieldName: true, alwaysEmitImplicit: false }));
export const emptyOf = (desc: DescMessage) => create(desc);
