// Makes the tables of settings in docs/operations.md from the rows in src/settings/settings.ts. With --check it only says
// whether they differ.
import { readFileSync, writeFileSync } from "node:fs";
import { settingRows } from "../src/settings/settings.ts";

const file = new URL("../docs/operations.md", import.meta.url);
const [begin, end] = ["<!-- settings: made by `make generate` -->", "<!-- end of settings -->"];

const code = (text) => `\`${text}\``;

/** What a row of each kind takes, in words. */
const values = {
  flag: () => "true or false",
  integer: ({ min, max }) => `${min} to ${max}`,
  seconds: ({ min, max }) => `${min} to ${max} s`,
  text: () => "text",
  choice: ({ choices }) => choices.map(code).join(", "),
  file: () => "a file",
  host: () => "a name or an address",
  url: ({ protocols }) => protocols.map((protocol) => code(`${protocol}//`)).join(", "),
  mongodbUrl: () => "`mongodb://`, `mongodb+srv://`",
  key: () => "base64 of 32 bytes",
  keyRing: () => "`kid:secret` pairs, by commas",
  origins: () => "origins, by commas",
  ranges: () => "addresses and CIDR ranges, by commas",
  namedUrls: () => "`name=url` pairs, by commas",
};

const line = (row) => {
  const byDefault = row.words ?? (row.default === "" ? "none" : code(row.default));
  const marks = [row.secret && "secret", row.requiredInProduction && "production requires it"].filter(Boolean);
  const takes = [values[row.kind](row), ...marks].join("; ");
  return `| ${code(row.name)} | ${byDefault} | ${takes} | ${row.meaning} |`;
};

const tables = Object.entries(Object.groupBy(settingRows, ({ group }) => group)).map(
  ([group, rows]) =>
    `### ${group}\n\n| variable | default | takes | meaning |\n| --- | --- | --- | --- |\n${rows.map(line).join("\n")}\n`,
);

const page = readFileSync(file, "utf8");
const [before, rest, ...more] = page.split(begin);
const [, after, ...others] = rest?.split(end) ?? [];
if (after === undefined || more.length + others.length > 0)
  throw new Error(`${file.pathname}: the marks are not there once`);
const made = `${before}${begin}\n\n${tables.join("\n")}\n${end}${after}`;
if (made === page) process.exit(0);
if (process.argv.includes("--check")) {
  console.error("docs/operations.md does not say what src/settings/settings.ts does: run `make generate`");
  process.exitCode = 1;
} else {
  writeFileSync(file, made);
}
