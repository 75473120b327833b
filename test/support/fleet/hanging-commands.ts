// Helper commands of the operating system that hang and ignore signals to end, as on a dead network mount.
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface HangingCommands {
  /** A search path on which these commands come first. */
  readonly path: string;
  /** Process ids of all that were begun, the commands' and their children's. */
  begun(): number[];
  /** Those of them that still run. */
  running(): number[];
}

/** Commands of these names; each writes down its process id, ignores SIGTERM and SIGHUP, and never ends. */
export function hangingCommands(directory: string, names: readonly string[]): HangingCommands {
  const bin = join(directory, "bin");
  const record = join(directory, "begun");
  mkdirSync(bin, { recursive: true });
  const script =
    `#!/bin/sh\ntrap '' TERM HUP INT PIPE\nsleep 100000 &\n` +
    `echo $$ >> '${record}'\necho $! >> '${record}'\nwhile :; do wait; sleep 1000; done\n`;
  for (const name of names) {
    writeFileSync(join(bin, name), script);
    chmodSync(join(bin, name), 0o755);
  }
  const begun = () => (existsSync(record) ? readFileSync(record, "utf8").split("\n").filter(Boolean).map(Number) : []);
  const isRunning = (pid: number): boolean => {
    try {
      // A zombie has ended; nobody has waited for it yet.
      return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
    } catch {
      return false;
    }
  };
  return { path: `${bin}:${process.env.PATH}`, begun, running: () => begun().filter(isRunning) };
}
