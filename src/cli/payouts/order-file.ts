// Reads the payouts of a batch from a file, and finds every fault in it before anything is sent. Pure.
import { hash } from "node:crypto";
import { amountProblem, type Currency, currencies, formatAmount, parseAmount, sumOf } from "../../payouts/money.js";
import { canonicalAddress, recipientProblem } from "../../payouts/recipient.js";
import { parseCsv } from "../csv.js";

export interface OrderItem {
  /** Where it is in the file, such as "line 3". */
  readonly place: string;
  readonly nodeId: string;
  readonly currency: Currency;
  /** In whole tokens, without trailing zeros. */
  readonly amount: string;
  /** Empty: the node's payout address. */
  readonly walletAddress: string;
}

export interface Fault {
  readonly place: string;
  readonly message: string;
}

export interface OrderFile {
  readonly items: readonly OrderItem[];
  /** A file with a fault is not sent. */
  readonly faults: readonly Fault[];
  /** What is allowed and may be a mistake. */
  readonly notices: readonly Fault[];
}

export interface CurrencyTotal {
  readonly currency: Currency;
  readonly count: number;
  /** In whole tokens. */
  readonly amount: string;
}

export const itemsMax = 1000;

/** The names of columns in CSV, and of fields in JSON. */
const needed = ["node_id", "currency", "amount"] as const;
const names: readonly string[] = [...needed, "wallet_address"];

type Row = { readonly place: string; readonly cells: Readonly<Record<string, string>> };
type Rows = { readonly rows: readonly Row[]; readonly faults: readonly Fault[] };

/**
 * Reads CSV with a header, or a JSON array of objects. Columns and fields are node_id, currency, amount and, if wanted,
 * wallet_address; all values are text.
 */
export function readOrders(given: string): OrderFile {
  // Spreadsheets begin a file with a byte order mark.
  const text = given.replace(/^\ufeff/, "");
  const { rows, faults: unread } = text.trimStart().startsWith("[") ? jsonRows(text) : csvRows(text);
  const read = rows.map(itemOf);
  const items = read.flatMap(({ item }) => (item === undefined ? [] : [item]));
  const faults = [...unread, ...read.flatMap(({ faults }) => faults)].sort((a, b) => numberIn(a) - numberIn(b));
  const size =
    rows.length > itemsMax
      ? [{ place: "file", message: `it has ${rows.length} payouts; a batch has at most ${itemsMax}` }]
      : rows.length === 0 && faults.length === 0
        ? [{ place: "file", message: "it has no payout" }]
        : [];
  return { items, faults: [...size, ...faults], notices: repeated(items) };
}

/** The number of the line or the item; what is wrong with the whole file comes first. */
const numberIn = ({ place }: Fault): number => Number(/\d+$/.exec(place)?.[0] ?? 0);

function csvRows(text: string): Rows {
  const { records, fault } = parseCsv(text);
  const broken = fault === undefined ? [] : [{ place: `line ${fault.line}`, message: fault.message }];
  const [header, ...rest] = records;
  const columns = header?.fields ?? [];
  const problem = header === undefined ? "the file is empty" : columnsProblem(columns);
  if (problem !== undefined) {
    return {
      rows: [],
      faults: broken.length > 0 ? broken : [{ place: `line ${header?.line ?? 1}`, message: problem }],
    };
  }
  const rows = rest.map(({ line, fields }): Row | Fault =>
    fields.length === columns.length
      ? { place: `line ${line}`, cells: Object.fromEntries(columns.map((name, at) => [name, fields[at] ?? ""])) }
      : { place: `line ${line}`, message: `it has ${fields.length} fields, the header has ${columns.length}` },
  );
  return split(rows, broken);
}

function columnsProblem(columns: readonly string[]): string | undefined {
  const unknown = columns.filter((name) => !names.includes(name));
  const missing = needed.filter((name) => !columns.includes(name));
  const said = `the header is ${needed.join(",")} with or without wallet_address`;
  if (unknown.length > 0) return `no column has the name ${unknown.map((name) => `"${name}"`).join(", ")}; ${said}`;
  if (missing.length > 0) return `the column ${missing.join(", ")} is missing; ${said}`;
  return new Set(columns).size < columns.length ? `a column is there twice; ${said}` : undefined;
}

function jsonRows(text: string): Rows {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    return { rows: [], faults: [{ place: "file", message: `it is no JSON: ${(error as SyntaxError).message}` }] };
  }
  const rows = (Array.isArray(parsed) ? parsed : []).map((one: unknown, index): Row | Fault => {
    const place = `item ${index + 1}`;
    if (typeof one !== "object" || one === null || Array.isArray(one)) return { place, message: "it is no object" };
    const cells: Record<string, unknown> = { ...one };
    const unknown = Object.keys(cells).filter((name) => !names.includes(name));
    if (unknown.length > 0) return { place, message: `no field has the name "${unknown.join('", "')}"` };
    // A number has lost its last digits before anybody could look at them.
    const others = Object.keys(cells).filter((name) => typeof cells[name] !== "string");
    if (others.length > 0) return { place, message: `${others.join(", ")}: write it as text, such as "12.5"` };
    return { place, cells: cells as Row["cells"] };
  });
  return split(rows, []);
}

const split = (rows: readonly (Row | Fault)[], faults: readonly Fault[]): Rows => ({
  rows: rows.filter((row) => "cells" in row),
  faults: [...rows.filter((row) => "message" in row), ...faults],
});

function itemOf({ place, cells }: Row): { readonly item?: OrderItem; readonly faults: readonly Fault[] } {
  const { node_id: nodeId = "", amount = "", wallet_address: walletAddress = "" } = cells;
  const currency = currencies.find((known) => known === cells.currency);
  const problems = [
    /^node_[a-zA-Z0-9_-]{3,59}$/.test(nodeId) ? undefined : `node_id: "${nodeId}" is no node's id`,
    currency === undefined ? `currency: "${cells.currency ?? ""}" is none of ${currencies.join(", ")}` : undefined,
    currency && prefixed(`amount: "${amount}" `, amountProblem(currency, amount)),
    currency && walletAddress !== ""
      ? prefixed("wallet_address: ", recipientProblem(currency, walletAddress))
      : undefined,
  ].filter((problem) => problem !== undefined);
  const minor = currency && parseAmount(currency, amount);
  if (problems.length > 0 || currency === undefined || minor === undefined) {
    return { faults: problems.map((message) => ({ place, message })) };
  }
  return { item: { place, nodeId, currency, amount: formatAmount({ currency, minor }), walletAddress }, faults: [] };
}

const prefixed = (prefix: string, problem: string | undefined) =>
  problem === undefined ? undefined : prefix + problem;

const meaningOf = ({ nodeId, currency, amount, walletAddress }: OrderItem): string =>
  JSON.stringify([nodeId, currency, amount, canonicalAddress(walletAddress)]);

/** A row that is there twice is paid twice: that may be wanted, or a mistake in the file. */
function repeated(items: readonly OrderItem[]): Fault[] {
  const first = new Map<string, string>();
  return items.flatMap((item) => {
    const earlier = first.get(meaningOf(item));
    if (earlier === undefined) first.set(meaningOf(item), item.place);
    return earlier === undefined ? [] : [{ place: item.place, message: `the same as ${earlier}; both are paid` }];
  });
}

/** By currency; a currency that no payout has is left out. */
export const totalsOf = (items: readonly OrderItem[]): CurrencyTotal[] =>
  currencies.flatMap((currency) => {
    const amounts = items.filter((item) => item.currency === currency).map(({ amount }) => amount);
    if (amounts.length === 0) return [];
    const minor = sumOf(amounts.map((amount) => parseAmount(currency, amount) ?? 0n));
    return [{ currency, count: amounts.length, amount: formatAmount({ currency, minor }) }];
  });

/**
 * The payouts in the one order in which they are sent. The service compares a batch with the one that it has under the
 * same id, in order; a file that was only sorted in another way is no other batch.
 */
export const inOrder = (items: readonly OrderItem[]): OrderItem[] =>
  items
    .map((item) => ({ item, meaning: meaningOf(item) }))
    .sort((a, b) => (a.meaning < b.meaning ? -1 : a.meaning > b.meaning ? 1 : 0))
    .map(({ item }) => item);

/**
 * The id that follows from what is paid to whom, in any order and spelling of the file: the same payouts again are the
 * same batch, which the service makes once.
 */
export const batchIdOf = (items: readonly OrderItem[]): string =>
  `batch_${hash("sha256", JSON.stringify(inOrder(items).map(meaningOf))).slice(0, 32)}`;
