// Reads comma-separated values as RFC 4180 writes them, and refuses everything else: what is read here moves money, so
// no text is guessed at. Pure.

export interface CsvRecord {
  /** The line where the record begins, from 1. */
  readonly line: number;
  readonly fields: readonly string[];
}

export interface CsvFault {
  readonly line: number;
  readonly message: string;
}

/** A field in quotes with its content, or a field without. */
const field = /"([^"]*(?:""[^"]*)*)"|([^",\r\n]*)/y;
/** What may follow a field: the next one, the next record, or the end. */
const separator = /,|\r\n|\n|$/y;

/**
 * The records of the text, without blank lines. A field in quotes may hold commas, line ends and, doubled, quotes. A
 * field keeps its blanks. Reading stops at the first fault, since nothing after it is certain.
 */
export function parseCsv(text: string): { readonly records: readonly CsvRecord[]; readonly fault?: CsvFault } {
  const records: CsvRecord[] = [];
  let [at, line, begun] = [0, 1, 1];
  let fields: string[] = [];
  for (;;) {
    field.lastIndex = at;
    const [whole = "", quoted, plain = ""] = field.exec(text) ?? [];
    at += whole.length;
    line += whole.split("\n").length - 1;
    separator.lastIndex = at;
    const end = separator.exec(text)?.[0];
    if (end === undefined) {
      const message =
        text[at] === "\r"
          ? "a line ends with a carriage return alone"
          : 'a quote is out of place: a field with a quote, a comma or a line end stands in "quotes", a quote in it is doubled';
      return { records, fault: { line, message } };
    }
    at += end.length;
    fields.push(quoted?.replaceAll('""', '"') ?? plain);
    if (end === ",") continue;
    const isBlank = fields.length === 1 && fields[0] === "" && quoted === undefined;
    if (!isBlank) records.push({ line: begun, fields });
    if (end === "") return { records };
    fields = [];
    line++;
    begun = line;
  }
}
