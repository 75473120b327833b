// Programs of other makers that tests drive. Without a program its tests are left out, and a line in capitals names it;
// in CI that is a failure.
import { accessSync, constants } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";

const root = new URL("../..", import.meta.url).pathname;
/** Where `make tools` installs what Debian and npm do not bring. */
export const toolsDirectory =
  process.env.LUCID_TOOLS ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "lucid-tools");

/** Programs from pip are taken from our environment only: any other Python would lack the clients. */
const pythonIn = join(toolsDirectory, "python", "bin");
const programsIn = [
  join(root, "node_modules", ".bin"),
  join(toolsDirectory, "bin"),
  ...(process.env.PATH ?? "").split(delimiter),
];

export type ToolName =
  | "buf"
  | "curl"
  | "grpcurl"
  | "mongod"
  | "npm"
  | "openssl"
  | "python"
  | "redis-server"
  | "secantusd-py"
  | "taskset";

const ofPython: ReadonlySet<ToolName> = new Set(["python", "secantusd-py"]);

const isProgram = (file: string): boolean => {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
};

/** Where the program is, or undefined. */
export const findTool = (name: ToolName): string | undefined =>
  (ofPython.has(name) ? [pythonIn] : programsIn).map((directory) => join(directory, name)).find(isProgram);

/** Where the program is; undefined leaves its tests out. @throws Error in CI when it is missing */
export function toolFor(tests: string, name: ToolName): string | undefined {
  const found = findTool(name);
  if (found === undefined) {
    const message = `SKIPPED: ${name} is missing (make tools installs it): ${tests}`;
    if (process.env.CI === "true") throw new Error(message);
    process.stderr.write(`${message}\n`);
  }
  return found;
}
