// The rows of settings as data: what other programs and doc pages may rely on.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parseSettings, SettingsError } from "../../src/settings/environment.js";
import { readValue } from "../../src/settings/kinds.js";
import { mapRows, type Row, rows, rowsIn, settingRows } from "../../src/settings/settings.js";

const named = settingRows.map((row): [string, Row] => [row.name, row]);

test("every row is in a group, in the order in which problems are told", () => {
  expect(settingRows.map(({ name }) => name)).toEqual(rowsIn(rows).map(({ name }) => name));
});

test("no two rows read one variable", () => {
  expect(new Set(settingRows.map(({ name }) => name)).size).toBe(settingRows.length);
});

test("docs/operations.md says of them what they say", () => {
  const script = new URL("../../.ci/handbook.mjs", import.meta.url).pathname;
  const { status, stderr } = spawnSync(process.execPath, [script, "--check"], { encoding: "utf8" });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
});

test("every field of Settings is read by the service", () => {
  // Nothing goes through the proxy yet.
  const ahead = ["TOR_PROXY_URL"];
  const source = new URL("../../src/", import.meta.url);
  const text = readdirSync(source, { recursive: true, encoding: "utf8" })
    .filter(
      (file) =>
        file.endsWith(".ts") &&
        !file.startsWith("client/dist/") &&
        (!file.startsWith("settings/") || file === "settings/rules.ts"),
    )
    .map((file) => readFileSync(new URL(file, source), "utf8"))
    .join("\n");
  const unread: string[] = [];
  const look = (fields: Record<string, unknown>) => {
    for (const [field, entry] of Object.entries(fields)) {
      if (typeof entry !== "string") look(entry as Record<string, unknown>);
      else if (!new RegExp(`\\b${field}\\b`).test(text)) unread.push(entry);
    }
  };
  look(mapRows(rows, ({ name }) => name));
  expect(unread).toEqual(ahead);
});

test.each(named)("%s has a name in capitals and a sentence that fits in a table", (name, row) => {
  expect(name).toMatch(/^[A-Z][A-Z0-9_]*$/);
  expect(row.meaning).toMatch(/^\S[^|\n]*[^\s.]$/);
});

const defaults = settingRows.flatMap((row): [string, string, Row][] =>
  "default" in row && row.default !== "" ? [[row.name, row.default, row]] : [],
);
test.each(defaults)("%s would take its default %s", (_name, text, row) => {
  expect(readValue(row, text).problems).toEqual([]);
});

test.each(named.filter(([, { secret }]) => secret))("%s is repeated in no message", (name) => {
  const messages = ["hunter2", "ftp://hunter2:hunter2@host", "https://hunter2:hunter2@host/?hunter2=1"].map((bad) => {
    try {
      parseSettings({ [name]: bad, TOR_ONLY: "true" });
      return "";
    } catch (error) {
      if (error instanceof SettingsError) return error.message;
      throw error;
    }
  });
  expect(messages[0]).toContain(name);
  expect(messages.join("\n")).not.toContain("hunter2");
});
