// The kinds of settings: how the text of an environment variable is read, and the message for a text that is not valid.
// Pure.
import { isIPv6 } from "node:net";
import * as v from "valibot";
import { isEncryptionKey, keyRingWeakness } from "../access/keyring.js";
import { faultsProblem } from "../payouts/gateway/faults.js";
import { type Currency, decimalsOf, parseAmount } from "../payouts/money.js";
import { isRange } from "../port/proxies.js";
import { mongodbHosts } from "./hosts.js";

interface Bounds {
  readonly min: number;
  readonly max: number;
}
interface Choices {
  readonly choices: readonly string[];
}
interface OfCurrency {
  readonly currency: Currency;
}
interface Protocols {
  /** Including the colon, such as "https:". */
  readonly protocols: readonly string[];
}

const number = ({ min, max }: Bounds, whole: boolean) =>
  v.pipe(
    v.string(),
    v.check(
      (text) => {
        const value = /^[0-9]+([.][0-9]+)?$/.test(text.trim()) ? Number(text) : Number.NaN;
        return value >= min && value <= max && (!whole || Number.isInteger(value));
      },
      ({ input }) => `${input} is not a ${whole ? "whole " : ""}number from ${min} to ${max}`,
    ),
    v.transform(Number),
  );

const url = ({ protocols }: Protocols) =>
  v.pipe(
    v.string(),
    v.check(
      (text) => URL.canParse(text) && protocols.includes(new URL(text).protocol),
      `not a URL that begins with ${protocols.map((protocol) => `${protocol}//`).join(" or ")}`,
    ),
  );

const truths = ["true", "1", "yes", "on"];

/** Kinds with one value. A kind's parameter is what its rows state beside name and meaning. */
const single = {
  flag: () =>
    v.pipe(
      v.string(),
      v.toLowerCase(),
      v.picklist([...truths, "false", "0", "no", "off"], ({ input }) => `${input} is neither true nor false`),
      v.transform((word) => truths.includes(word)),
    ),
  integer: (bounds: Bounds) => number(bounds, true),
  /** Written in seconds, decimals allowed; read as milliseconds. */
  seconds: (bounds: Bounds) =>
    v.pipe(
      number(bounds, false),
      v.transform((seconds) => Math.round(seconds * 1000)),
    ),
  text: () => v.string(),
  /** Faults of the sandbox chain and their probabilities, as text. */
  faults: () =>
    v.pipe(
      v.string(),
      v.rawCheck(({ dataset, addIssue }) => {
        const problem = dataset.typed ? faultsProblem(dataset.value) : undefined;
        if (problem !== undefined) addIssue({ message: problem });
      }),
    ),
  /** Case does not matter. */
  choice: ({ choices }: Choices) =>
    v.pipe(
      v.string(),
      v.transform((text) => choices.find((choice) => choice.toLowerCase() === text.toLowerCase()) ?? text),
      v.picklist(choices, ({ input }) => `${input} is not one of ${choices.join(", ")}`),
    ),
  /** Whole tokens as a plain decimal; read as minor units of the currency. */
  amount: ({ currency }: OfCurrency) =>
    v.pipe(
      v.string(),
      v.rawTransform(({ dataset, addIssue, NEVER }) => {
        const minor = parseAmount(currency, dataset.value);
        if (minor !== undefined) return minor;
        const decimals = `at most ${decimalsOf[currency]} decimals`;
        addIssue({ message: `${dataset.value} is not a plain decimal such as 12.5 with ${decimals}` });
        return NEVER;
      }),
    ),
  /** A file that exists. Its content is checked before the start. */
  file: () => v.string(),
  /** A name or an address, without port or brackets. */
  host: () =>
    v.pipe(
      v.string(),
      v.check(
        (text) => (/^[\w.-]{1,253}$/.test(text) && URL.canParse(`http://${text}`)) || isIPv6(text),
        ({ input }) => `${input} is neither a host's name nor an address such as 0.0.0.0 or ::1`,
      ),
    ),
} as const;

/** Kinds with one value that may be or contain a secret, so messages never repeat it. */
const silent = {
  url,
  mongodbUrl: () =>
    v.pipe(
      v.string(),
      v.check((text) => mongodbHosts(text).length > 0, "not a URL that begins with mongodb:// or mongodb+srv://"),
    ),
  /** Base64 of 32 bytes. */
  key: () => v.pipe(v.string(), v.check(isEncryptionKey, "not the base64 of 32 bytes")),
  /** `kid:secret` pairs joined by commas. */
  keyRing: () =>
    v.pipe(
      v.string(),
      v.rawCheck(({ dataset, addIssue }) => {
        const weakness = dataset.typed ? keyRingWeakness(dataset.value) : undefined;
        if (weakness !== undefined) addIssue({ message: weakness });
      }),
    ),
} as const;

/** Kinds whose values are joined by commas; this is one part. */
const listed = {
  /** What a replica does. */
  roles: () =>
    v.pipe(
      v.string(),
      v.toLowerCase(),
      v.picklist(["api", "payouts"], ({ input }) => `${input} is neither api nor payouts`),
    ),
  origins: () =>
    v.pipe(
      v.string(),
      v.check(
        (text) => URL.canParse(text) && new URL(text).origin === text,
        ({ input }) => `${input} is not an origin such as https://app.example`,
      ),
    ),
  /** Addresses and CIDR ranges. */
  ranges: () =>
    v.pipe(
      v.string(),
      v.check(isRange, ({ input }) => `${input} is not an address or a range such as 10.0.0.0/8`),
    ),
} as const;

/** The same, for parts that may contain a password. */
const listedSilent = {
  namedUrls: () =>
    v.pipe(
      v.string(),
      v.transform((pair): [string, string] => [nameIn(pair), pair.slice(nameIn(pair).length + 1)]),
      v.tuple([v.string(), url({ protocols: ["http:", "https:"] })]),
    ),
} as const;

const nameIn = (pair: string): string => pair.split("=", 1)[0] ?? "";

const kinds = { ...single, ...silent, ...listed, ...listedSilent };

/** If the name of a URL was left out, the text before "=" may hold a password. */
const shownName = (pair: string): string => (/^[\w .-]{1,64}=/.test(pair) ? nameIn(pair) : "");

export type Kind = keyof typeof kinds;
export type ListKind = keyof typeof listed | keyof typeof listedSilent;
/** Kinds whose values never appear in a message. A row of any other kind cannot be a secret. */
export type SilentKind = keyof typeof silent | keyof typeof listedSilent;

/** What a row of this kind states beside the fields of all rows. */
export type FieldsOf<K extends Kind> = Parameters<(typeof kinds)[K]> extends [infer Fields] ? Fields : unknown;

type Read<K extends Kind> = v.InferOutput<ReturnType<(typeof kinds)[K]>>;
/** The value read from a variable of this kind. */
export type ValueOf<K extends Kind> = K extends ListKind ? readonly Read<K>[] : Read<K>;

type AnyRow = { [K in Kind]: { readonly kind: K } & FieldsOf<K> }[Kind];

export interface Reading {
  /** Undefined when the text is not a value of this kind. For a list, its valid parts. */
  readonly value: unknown;
  /** Each problem with the part of the variable that it is about; "" means the whole variable. */
  readonly problems: readonly { readonly part: string; readonly message: string }[];
}

/** Reads a row's value from a text, with every problem found. */
export function readValue(row: AnyRow, text: string): Reading {
  const isList = row.kind in listed || row.kind in listedSilent;
  // Each kind's function takes the fields of its own rows; no type can say that for an arbitrary row.
  const schema = (kinds[row.kind] as (row: AnyRow) => v.GenericSchema<string, unknown>)(row);
  const parts = isList ? partsOf(text) : [text];
  const readings = parts.map((part) => ({ part, ...v.safeParse(schema, part) }));
  const values = readings.filter(({ success }) => success).map(({ output }) => output);
  const problems = readings.flatMap(({ part, issues }) =>
    (issues ?? []).map(({ message }) => ({ part: row.kind === "namedUrls" ? shownName(part) : "", message })),
  );
  // A replica without a role would do nothing.
  const idle = row.kind === "roles" && parts.length === 0;
  return {
    value: isList ? values : values[0],
    problems: idle ? [{ part: "", message: "names neither api nor payouts" }] : problems,
  };
}

const partsOf = (text: string): string[] =>
  text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
