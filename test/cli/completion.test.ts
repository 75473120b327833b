// Completion as a shell asks for it: the test sources the script and calls its function with the words so far.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { afterAll, describe, expect, test } from "vitest";
import { createProgram, pathOf } from "../../src/cli/commands.js";
import { completionOf } from "../../src/cli/completion.js";

const program = createProgram({ version: "1.2.3", write: () => undefined, end: () => undefined });
/** The commands with those of groups in the place of their group. */
const leaves = (command: CommandUnknownOpts): readonly CommandUnknownOpts[] =>
  command.commands.length === 0 ? [command] : command.commands.flatMap(leaves);
const names = program.commands.map((command) => command.name());
const directory = mkdtempSync(join(tmpdir(), "lucid-completion-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const scriptOf = (shell: "bash" | "zsh"): string => {
  const path = join(directory, shell);
  writeFileSync(path, completionOf(shell, program));
  return path;
};

/** What bash suggests for the last word. The words are split as bash splits a line. */
function suggested(...words: string[]): string[] {
  const asked = `source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _lucid_node; printf "%s\\n" "\${COMPREPLY[@]}"`;
  const given = ["-u", "-c", asked, scriptOf("bash"), "lucid-node", ...words];
  return execFileSync("bash", given, { encoding: "utf8", cwd: directory })
    .split("\n")
    .filter((line) => line !== "");
}

describe("completion in bash", () => {
  test("is registered for the command", () => {
    const registered = execFileSync("bash", ["-c", 'source "$0"; complete -p lucid-node', scriptOf("bash")]);
    expect(String(registered)).toBe("complete -F _lucid_node lucid-node\n");
  });

  test("knows every command, and every option of each", () => {
    expect(suggested("")).toEqual([...names, "help", "--version", "--help"]);
    for (const command of leaves(program).filter((found) => found.registeredArguments.length === 0)) {
      const options = command.options.map(({ long }) => long);
      const words = pathOf(command).split(" ").slice(1);
      expect(suggested(...words, "")).toEqual([...options, "--help"]);
      expect(suggested(...words, "--server", "http://h", "")).toEqual([...options, "--help"]);
    }
  });

  test("knows the commands of a group, and the options of those with an argument", () => {
    const group = program.commands.find((command) => command.commands.length > 0);
    expect(suggested(group?.name() ?? "", "")).toEqual([
      ...(group?.commands.map((command) => command.name()) ?? []),
      "--help",
    ]);
    expect(suggested("payouts", "show", "PAYOUT", "")).toEqual(["--server", "--token", "--json", "--help"]);
  });

  test.each<[string[], string[]]>([
    [["tok"], ["token"]],
    [["token", "--e"], ["--enrollment"]],
    [
      ["token", "--role", ""],
      ["worker", "validator", "storage", "compute", "operator", "payer", "approver", "admin"],
    ],
    [["token", "--enrollment", "--role", "st"], ["storage"]],
    [["token", "--role", "=", "ad"], ["admin"]],
    [
      ["token", "--role", "="],
      ["worker", "validator", "storage", "compute", "operator", "payer", "approver", "admin"],
    ],
    [["token", "--ttl", ""], []],
    [
      ["completion", ""],
      ["bash", "zsh"],
    ],
    [["completion", "bash", "-"], ["--help"]],
    [["help", "si"], ["simulate"]],
    [["nothing", ""], []],
    [
      ["payouts", "re"],
      ["reject", "retry", "resume", "reconcile"],
    ],
    [
      ["payouts", "list", "--currency", ""],
      ["USDT", "LUCID"],
    ],
    [["payouts", "list", "--status", "=", "FA"], ["FAILED"]],
    [["payouts", "show", ""], []],
    [["payouts", "nothing", ""], []],
  ])("after %j suggests %j", (words, expected) => {
    expect(suggested(...words)).toEqual(expected);
  });

  test("completes names of files where a file is wanted, blanks and all", () => {
    for (const name of ["agent one.json", "agent two.json", "other"]) writeFileSync(join(directory, name), "");
    expect(suggested("agent", "--credentials", "agent").sort()).toEqual(["agent one.json", "agent two.json"]);
    expect(suggested("payouts", "batch", "agent").sort()).toEqual(["agent one.json", "agent two.json"]);
  });
});

/** Undefined when this machine has no zsh. */
function zsh(): string | undefined {
  try {
    return execFileSync("sh", ["-c", "command -v zsh"], { encoding: "utf8" }).trim();
  } catch {
    return undefined;
  }
}
const shell = zsh();
if (shell === undefined) console.warn("NOT TESTED, FOR THIS MACHINE HAS NO zsh: its own view of its completion");

describe("completion in zsh", () => {
  test.runIf(shell !== undefined)("is a script that zsh can read", () => {
    execFileSync(shell ?? "", ["-n", scriptOf("zsh")]);
  });

  test("names every command and every option, each with what it means", () => {
    const script = completionOf("zsh", program);
    expect(script.split("\n")[0]).toBe("#compdef lucid-node");
    expect(script).toMatch(/^_lucid_node_payouts\(\) \{[\s\S]*^ +payouts\) _lucid_node_payouts ;;$/m);
    for (const command of leaves(program)) {
      expect(script).toContain(`'${command.name()}:${command.description()}'`);
      const [, own = ""] = new RegExp(`^ +${command.name()}\\) (.*) ;;$`, "m").exec(script) ?? [];
      for (const { long, description, required } of command.options) {
        const means = description.replaceAll("'", "'\\''").replaceAll(/[[\]:]/g, "\\$&");
        expect(own).toContain(`'${long}${required ? "=" : ""}[${means}]`);
      }
    }
  });

  test("opens and closes its quotes, brackets and blocks", () => {
    const script = completionOf("zsh", program);
    // If bash parses the script without an error, these come in pairs. `-n` runs nothing.
    execFileSync("bash", ["-n", scriptOf("zsh")]);
    expect(script.match(/\bcase /g)?.length).toBe(script.match(/\besac\b/g)?.length);
  });
});
