// The commands as they are defined, compared with what is said about them elsewhere.
import { readFileSync } from "node:fs";
import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { describe, expect, test } from "vitest";
import { createProgram, pathOf, sourceOf } from "../../src/cli/commands.js";
import { packageVersion } from "../../src/version.js";

const read = (file: string) => readFileSync(new URL(`../../${file}`, import.meta.url), "utf8");

async function helpOf(...words: string[]): Promise<string> {
  const pieces: string[] = [];
  const program = createProgram({ version: "1.2.3", write: (piece) => pieces.push(piece), end: () => undefined });
  await expect(program.parseAsync(words, { from: "user" })).rejects.toMatchObject({ exitCode: 0 });
  return pieces.join("");
}
const program = createProgram({ version: "1.2.3", write: () => undefined, end: () => undefined });
/** The commands with those of groups in the place of their group. */
const leaves = (command: CommandUnknownOpts): readonly CommandUnknownOpts[] =>
  command.commands.length === 0 ? [command] : command.commands.flatMap(leaves);
/** The words after "lucid-node". */
const nameOf = (command: CommandUnknownOpts) => pathOf(command).slice("lucid-node ".length);
const commands = leaves(program);

test("the version is that of the package", () => {
  expect(packageVersion()).toBe(JSON.parse(read("package.json")).version);
});

describe.each(commands.map((command) => [nameOf(command), command] as const))("%s", (name, command) => {
  test("has help with its usage, its options and an example of itself", async () => {
    const help = await helpOf(...name.split(" "), "--help");
    expect(help.split("\n")[0]).toMatch(new RegExp(`^usage: lucid-node ${name}( |$)`));
    for (const { flags, description } of command.options) {
      expect(help.split("\n")[0]).toContain(flags);
      expect(help.replaceAll(/\s+/g, " ")).toContain(`${flags} ${description}`);
    }
    expect(help).toMatch(new RegExp(`^examples:\n(  .*\n)*  .*lucid-node ${name}`, "m"));
  });

  test("is in the list of docs/operations.md", () => {
    expect(read("docs/operations.md")).toContain(`\n| \`${name}\` | ${command.description()} |\n`);
  });

  test("has its options in the table of docs/operations.md, in these words", () => {
    const rows = command.options.map(
      (option) => `| \`${name}\` | \`${option.flags}\` | ${sourceOf(option) || "–"} | ${option.description} |`,
    );
    const told = read("docs/operations.md").split("\n");
    expect(told.filter((line) => line.startsWith(`| \`${name}\` | \`--`))).toEqual(rows);
  });
});

test("a row of the table that no command has is noticed", () => {
  const told = [...read("docs/operations.md").matchAll(/^\| `([\w ]+)` \| `--/gm)].map(([, name]) => name);
  expect(new Set(told)).toEqual(new Set(commands.filter(({ options }) => options.length > 0).map(nameOf)));
});

test("a group has help with its commands and an example, and leads to the help of each", async () => {
  const help = await helpOf("payouts", "--help");
  expect(help.split("\n")[0]).toBe("usage: lucid-node payouts COMMAND");
  for (const command of commands.filter(({ parent }) => parent?.name() === "payouts"))
    expect(help.replaceAll(/\s+/g, " ")).toContain(` ${command.name()} ${command.description()} `);
  expect(help).toMatch(/^examples:\n( {2}.*\n)* {2}.*lucid-node payouts/m);
});
