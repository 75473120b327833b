#!/usr/bin/env node
// The command line: finds the subcommand and turns what it throws into a message and an exit code.
import "../base64.js";
import { SettingsError } from "../settings.js";
import { type Command, UsageError } from "./command.js";

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
    process.stdout.write(`${command.usage}\n${command.summary}\n`);
    return 0;
  }
  try {
    return await command.run(rest);
  } catch (error) {
    const misused = error instanceof UsageError || (error instanceof TypeError && "code" in error);
    if (!misused && !(error instanceof SettingsError)) throw error;
    process.stderr.write(`${error.message}\n${misused ? `usage: ${command.usage}\n` : ""}`);
    return misused ? 2 : 1;
  }
}

async function help(name: string): Promise<number> {
  const known = ["help", "--help", "-h"].includes(name);
  const out = known ? process.stdout : process.stderr;
  if (!known) out.write(`There is no command ${name}.\n`);
  out.write("usage: lucid-node COMMAND\n");
  for (const [command, load] of Object.entries(commands))
    out.write(`  ${command.padEnd(10)}${(await load()).summary}\n`);
  return known ? 0 : 2;
}

process.exitCode = await dispatch(process.argv.slice(2));
