// Documents as JSON text. JSON has no dates: declared ones are stored as epoch milliseconds and become Dates again when
// read.
import { isFields } from "../filter.js";

export interface Codec {
  encode(document: object): string;
  /** Returns a new object. */
  decode<T>(text: string): T;
}

/** Field names, each with the paths below it. A node without paths is a date. */
interface DateTree {
  readonly [name: string]: DateTree;
}

/** `dates` are field paths, which may cross arrays of objects ("changes.at"). */
export function createCodec(dates: readonly string[]): Codec {
  const tree = dates.reduce<DateTree>((grown, path) => grow(grown, path.split(".")), {});
  const toMs = (value: unknown) => (value instanceof Date ? value.getTime() : value);
  const toDate = (value: unknown) => (typeof value === "number" ? new Date(value) : value);
  return {
    encode: (document) => JSON.stringify(mapDates(document, tree, toMs)),
    decode: <T>(text: string) => mapDates(JSON.parse(text), tree, toDate) as T,
  };
}

function grow(tree: DateTree, [name, ...rest]: readonly string[]): DateTree {
  return name === undefined ? tree : { ...tree, [name]: grow(tree[name] ?? {}, rest) };
}

function isEnd(tree: DateTree): boolean {
  for (const _ in tree) return false;
  return true;
}

function mapDates(value: unknown, tree: DateTree, change: (value: unknown) => unknown): unknown {
  if (Array.isArray(value)) return value.map((element) => mapDates(element, tree, change));
  if (!isFields(value)) return isEnd(tree) ? change(value) : value;
  const copy: Record<string, unknown> = { ...value };
  for (const name in tree) {
    const branch = tree[name];
    if (branch && copy[name] !== undefined) copy[name] = mapDates(copy[name], branch, change);
  }
  return copy;
}
