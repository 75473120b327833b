#!/usr/bin/env node
// The command line: finds the subcommand and turns what it throws into a message and an exit code.
import "../base64.js";
import { type Command, UsageError } from "./command.js";
import { answer, complain, endOnFaults, say } from "./output.js";
import { isExpected } from "./service.js";

const commands: Readonly<Record<string, () => Promise<Command>>> = {
  serve: async () => (await import("./serve.js")).serve,
  migrate: async () => (await import("./migrate.js")).migrate,
  agent: async () => (await import("./agent.js")).agent,
  simulate: async () => (await import("./simulate.js")).simulate,
  token: async () => (await import("./token.js")).token,
  health: async () => (await import("./health.js")).health,
  run: async () => (await import("./run.js")).run,
};

async function dispatch([name = "help", ...rest]: readonly string[]): Promise<number> {
  const load = commands[name];
  if (load === undefined) return help(name);
  const command = await load();
  if (rest.includes("--help")) {
    for (const line of command.usage.split("\n")) say(line);
    return answer(command.summary);
  }
  try {
    return await command.run(rest);
  } catch (error) {
    const misused = error instanceof UsageError || isOptionsError(error);
    if (!misused && !isExpected(error)) throw error;
    for (const line of `${error.message}${misused ? `\nusage: ${command.usage}` : ""}`.split("\n")) complain(line);
    return misused ? 2 : 1;
  }
}

/** What parseArgs says of options that it does not know. */
const isOptionsError = (error: unknown): error is TypeError =>
  error instanceof TypeError && "code" in error && String(error.code).startsWith("ERR_PARSE_ARGS");

async function help(name: string): Promise<number> {
  const known = ["help", "--help", "-h"].includes(name);
  const out = known ? say : complain;
  if (!known) out(`There is no command ${name}.`);
  out("usage: lucid-node COMMAND");
  for (const [command, load] of Object.entries(commands)) out(`  ${command.padEnd(10)}${(await load()).summary}`);
  return known ? 0 : 2;
}

endOnFaults();
// A connection that is still open, or a child that hangs, does not keep a command whose work is done.
process.exit(await dispatch(process.argv.slice(2)));
