// Makes the tables in docs/operations.md from the code: settings from the rows in src/settings/settings.ts, metrics
// from the registry of src/telemetry/metrics.ts. With --check it only says whether they differ.
import { readFileSync, writeFileSync } from "node:fs";
import { faultNames } from "../src/payouts/gateway/faults.ts";
import { decimalsOf } from "../src/payouts/money.ts";
import { settingRows } from "../src/settings/settings.ts";
import { createMetrics } from "../src/telemetry/metrics.ts";

const file = new URL("../docs/operations.md", import.meta.url);

const code = (text) => `\`${text}\``;

/** What a row of each kind takes, in words. */
const values = {
  flag: () => "true or false",
  integer: ({ min, max }) => `${min} to ${max}`,
  seconds: ({ min, max }) => `${min} to ${max} s`,
  text: () => "text",
  choice: ({ choices }) => choices.map(code).join(", "),
  amount: ({ currency }) => `tokens, at most ${decimalsOf[currency]} decimals`,
  file: () => "a file",
  host: () => "a name or an address",
  url: ({ protocols }) => protocols.map((protocol) => code(`${protocol}//`)).join(", "),
  mongodbUrl: () => "`mongodb://`, `mongodb+srv://`",
  key: () => "base64 of 32 bytes",
  keyRing: () => "`kid:secret` pairs, by commas",
  faults: () => `\`name=probability\`, by commas: ${faultNames.map(code).join(", ")}`,
  roles: () => "`api`, `payouts`, by commas",
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

const settingTables = () =>
  Object.entries(Object.groupBy(settingRows, ({ group }) => group))
    .map(
      ([group, rows]) =>
        `### ${group}\n\n| variable | default | takes | meaning |\n| --- | --- | --- | --- |\n${rows.map(line).join("\n")}\n`,
    )
    .join("\n");

/** Metrics of the process itself are left out: prom-client measures and names them. */
const metricTable = () => {
  const metrics = createMetrics({ service: "", version: "", environment: "" });
  const own = metrics.registry
    .getMetricsAsArray()
    .filter(({ name }) => !/^(process|nodejs)_/.test(name))
    .toSorted((one, other) => one.name.localeCompare(other.name));
  metrics.close();
  const lines = own.map(({ name, type, labelNames, help }) => {
    const labels = labelNames.length === 0 ? "–" : labelNames.map(code).join(", ");
    return `| ${code(name)} | ${type ?? "counter"} | ${labels} | ${help} |`;
  });
  return `| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n${lines.join("\n")}\n`;
};

/** The page, with the text in place of what is between the part's marks. */
const withPart = (page, name, text) => {
  const [begin, end] = [`<!-- ${name}: made by \`make generate\` -->`, `<!-- end of ${name} -->`];
  const [before, rest, ...more] = page.split(begin);
  const [, after, ...others] = rest?.split(end) ?? [];
  if (after === undefined || more.length + others.length > 0)
    throw new Error(`${file.pathname}: the marks of ${name} are not there once`);
  return `${before}${begin}\n\n${text}\n${end}${after}`;
};

const page = readFileSync(file, "utf8");
const made = withPart(withPart(page, "settings", settingTables()), "metrics", metricTable());
if (made === page) process.exit(0);
if (process.argv.includes("--check")) {
  console.error("docs/operations.md does not say what settings and metrics say of themselves: run `make generate`");
  process.exitCode = 1;
} else {
  writeFileSync(file, made);
}
