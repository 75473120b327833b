// Reads the settings; only this file names the environment. Each value comes from the environment, else from .env, else
// from CONFIG_FILE (both KEY=VALUE lines). The case of names does not matter, and an empty value counts as absent. All
// problems are reported at once.
import { existsSync } from "node:fs";
import { hostname } from "node:os";
import { parseEnv } from "node:util";
import { StartError } from "../start-error.js";
import { readStateFile } from "../state-file.js";
import { packageVersion } from "../version.js";
import { readValue } from "./kinds.js";
import { conflicts, settle } from "./rules.js";
import { type Given, mapRows, type Rows, rows, type Settings } from "./settings.js";

/** The settings cannot be used. `problems` names each variable and its fault. */
export class SettingsError extends StartError {
  override readonly name = "SettingsError";
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`The settings cannot be used:\n${problems.map((problem) => `  - ${problem}`).join("\n")}`);
    this.problems = problems;
  }
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Merges the environment with .env and CONFIG_FILE. Names in the result are in capitals. @throws SettingsError */
export function readEnvironment(environment: Environment = process.env, directory = process.cwd()): Environment {
  const merged: Record<string, string> = {};
  const take = (source: Environment) => {
    for (const [name, value] of Object.entries(source)) {
      if (value !== undefined && value !== "") merged[name.toUpperCase()] ??= value;
    }
  };
  take(environment);
  take(readLines(".env", `${directory}/.env`) ?? {});
  const configFile = merged.CONFIG_FILE;
  if (configFile !== undefined) {
    const lines = readLines("CONFIG_FILE", configFile);
    if (lines === undefined) throw new SettingsError([`CONFIG_FILE: ${configFile} does not exist`]);
    take(lines);
  }
  return merged;
}

/** The KEY=VALUE lines of a file; undefined when there is none. @throws SettingsError */
function readLines(name: string, file: string): Environment | undefined {
  try {
    const text = readStateFile(file, { readers: "all", mayBeEmpty: true, remedy: "give a file of KEY=VALUE lines" });
    return text === undefined ? undefined : (parseEnv(text) as Environment);
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    throw new SettingsError([`${name}: ${error.message}`]);
  }
}

/**
 * The tokens that the agent and the simulation take from the environment: they should not appear in the list of
 * processes.
 */
export const readClientTokens = (environment: Environment = readEnvironment()) => ({
  token: environment.LUCID_TOKEN,
  enrollmentToken: environment.LUCID_ENROLLMENT_TOKEN,
});

/** Whether the group of a file with keys may read it. @throws SettingsError */
export function readSecretsGroupReadable(environment: Environment = readEnvironment()): boolean {
  const { given, problems } = readRows({ allowed: rows.secretsGroupReadable }, environment);
  if (problems.length > 0) throw new SettingsError(problems);
  return given.allowed;
}

/** @throws SettingsError with all problems at once. */
export function parseSettings(environment: Environment): Settings {
  const { given, problems } = readRows(rows, environment);
  const settings = settle(given, { hostname, packageVersion });
  // An invalid value has its own problem already, so the rules use its default.
  const all = [...problems, ...conflicts(settings, (name) => environment[name] !== undefined)];
  if (all.length > 0) throw new SettingsError(all);
  return settings;
}

/** The values of the variables, and each variable's problems. */
function readRows<R extends Rows>(of: R, environment: Environment) {
  const problems: string[] = [];
  const given = mapRows(of, (row) => {
    const fallback = "default" in row ? readValue(row, row.default).value : undefined;
    const text = environment[row.name];
    if (text === undefined) return fallback;
    const read = readValue(row, text);
    problems.push(
      ...read.problems.map(({ part, message }) => `${row.name}${part === "" ? "" : ` (${part})`}: ${message}`),
    );
    if (row.kind === "file" && !existsSync(text)) problems.push(`${row.name}: ${text} does not exist`);
    return read.value ?? fallback;
  });
  // Each row says which kind of value its field has; `mapRows` keeps the shape of the rows.
  return { given: given as Given<R>, problems };
}
