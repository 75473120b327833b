#!/usr/bin/env node
// The command line: runs a command, and turns its errors into a message and an exit code.
import "../base64.js";
import { CommanderError, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { packageVersion } from "../version.js";
import { createProgram, usageOf } from "./commands.js";
import { answer, complain, endOnFaults } from "./output.js";
import { isExpected } from "./service.js";
import { UsageError } from "./usage.js";

async function dispatch(given: readonly string[]): Promise<number> {
  let code = 0;
  let text = "";
  const program = createProgram({
    version: packageVersion(),
    write: (piece) => {
      text += piece;
    },
    end: (ended) => {
      code = ended;
    },
  });
  const words = wordsOf(given, program);
  const { command, rest } = calledBy(words, program);
  try {
    assertValues(rest, command === program ? [] : command.options);
    await program.parseAsync(words, { from: "user" });
    return code;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return answer(text.trimEnd());
    if (error instanceof CommanderError || error instanceof UsageError) {
      for (const line of sentenceOf(error).split("\n")) complain(line);
      const usage = command.commands.length > 0 ? command.helpInformation().trimEnd() : `usage: ${usageOf(command)}`;
      for (const line of usage.split("\n")) complain(line);
      return 2;
    }
    if (!isExpected(error)) throw error;
    for (const line of error.message.split("\n")) complain(line);
    return 1;
  }
}

/** The command that the words name, and the words after its name. */
function calledBy(words: readonly string[], command: CommandUnknownOpts): Called {
  const [name, ...rest] = words;
  const named = command.commands.find((known) => known.name() === name);
  return named === undefined ? { command, rest: words } : calledBy(rest, named);
}

interface Called {
  readonly command: CommandUnknownOpts;
  readonly rest: readonly string[];
}

/**
 * Adapts the words for the library: a program or a group of commands without a command means help, "help token" means
 * the help of token, and an unknown command is refused whatever follows it, even --help.
 */
function wordsOf(given: readonly string[], program: CommandUnknownOpts): string[] {
  const words = given[0] === "help" ? [...given.slice(1), "--help"] : [...given];
  const { command, rest } = calledBy(words, program);
  if (command.commands.length === 0) return given[0] === "help" ? [...namesOf(words, rest), "--help"] : words;
  const [first = "--help"] = rest;
  return first.startsWith("-") && rest.length > 0 ? words : [...namesOf(words, rest), first];
}

/** The words without those that follow the command's name. */
const namesOf = (words: readonly string[], rest: readonly string[]): string[] =>
  words.slice(0, words.length - rest.length);

/**
 * Refuses an option in the place of another option's value: the library would take it for that value, and `--credentials
 * --prove` would write a key into a file named `--prove`. @throws UsageError
 */
function assertValues(
  words: readonly string[],
  options: readonly { long?: string | undefined; required: boolean }[],
): void {
  for (const [index, word] of words.entries()) {
    const takesValue = options.some(({ long, required }) => required && long === word);
    if (takesValue && words[index + 1]?.startsWith("-")) {
      throw new UsageError(`${word} needs a value; one that begins with "-" is given as ${word}=VALUE`);
    }
  }
}

/** The error in our own words, without possible secrets such as the value of an unknown option or surplus words. */
function sentenceOf({ message }: Error): string {
  const words = message
    .replace(/^error: /, "")
    .replace(/^(unknown option '(?:--[^'=]+=|-[^-'])).+'/s, "$1…'")
    .replace(/^(too many arguments.* but got \d+): .*/s, "$1.");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

endOnFaults();
// An open connection or a hanging child must not delay the end of a finished command.
process.exit(await dispatch(process.argv.slice(2)));
