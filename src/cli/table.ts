// Tables for people: columns as wide as their widest cell, two blanks apart. Pure.

/** One line for the titles and one for each row. Widths count characters. */
export function tableOf(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [titles, ...rows];
  const widths = titles.map((_, column) => Math.max(...all.map((row) => [...(row[column] ?? "")].length)));
  const lineOf = (row: readonly string[]): string =>
    row
      .map((cell, column) => cell + " ".repeat((widths[column] ?? 0) - [...cell].length))
      .join("  ")
      .trimEnd();
  return all.map(lineOf).join("\n");
}

/** A line for each name with its value; those without a value are left out. */
export function fieldsOf(fields: Readonly<Record<string, string>>): string {
  const told = Object.entries(fields).filter(([, value]) => value !== "");
  const width = Math.max(0, ...told.map(([name]) => name.length));
  return told.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join("\n");
}
