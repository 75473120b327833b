// Starts a TypeScript file as a process of its own. A test talks to it by lines, and can kill it.
import { spawn } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export interface Child {
  readonly pid: number | undefined;
  /** Lines of its standard output so far. */
  readonly lines: readonly string[];
  /** The first line that fits, printed already or later. @throws Error when the child ends or the limit passes first */
  line(fits: (line: string) => boolean, limitMs?: number): Promise<string>;
  write(line: string): void;
  /** Sends the signal, SIGKILL if none is named, and waits for the end. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** Its exit code, or the signal that ended it, once all output is read. */
  readonly ended: Promise<number | NodeJS.Signals | null>;
}

export interface ChildOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** A command that runs node, such as ["strace", "-f"]. */
  readonly under?: readonly string[];
}

// Node.js strips types by itself. Our sources import "./x.js", as the compiler wants; this leads it to "./x.ts".
const resolveTypeScript = `data:text/javascript,${encodeURIComponent(`
import { registerHooks } from "node:module";
registerHooks({
  resolve(specifier, context, next) {
    try {
      return next(specifier, context);
    } catch (error) {
      if (!/^[./].*\\.js$/.test(specifier)) throw error;
      return next(specifier.replace(/\\.js$/, ".ts"), context);
    }
  },
});
`)}`;

/** Passes standard error on. A child that reads its standard input sees it close, and ends, when this process ends. */
export function startChild(entry: URL, { args = [], env = {}, under = [] }: ChildOptions = {}): Child {
  const node = [process.execPath, "--import", resolveTypeScript, fileURLToPath(entry), ...args];
  const [command = process.execPath, ...rest] = [...under, ...node];
  const cache = join(tmpdir(), "lucid-compile-cache");
  const child = spawn(command, rest, {
    stdio: ["pipe", "pipe", "inherit"],
    env: { ...process.env, NODE_OPTIONS: "", NODE_COMPILE_CACHE: cache, ...env },
  });
  child.stdin.on("error", () => undefined);
  const lines: string[] = [];
  const listeners = new Set<(line: string) => void>();
  createInterface({ input: child.stdout }).on("line", (line) => {
    lines.push(line);
    for (const listener of listeners) listener(line);
  });
  const ended = new Promise<number | NodeJS.Signals | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve(code ?? signal));
  });
  ended.catch(() => undefined);
  return {
    pid: child.pid,
    lines,
    ended,
    write: (line) => void child.stdin.write(`${line}\n`),
    kill: async (signal = "SIGKILL") => {
      child.kill(signal);
      await ended;
    },
    line: (fits, limitMs = 20_000) =>
      new Promise((resolve, reject) => {
        const known = lines.find(fits);
        if (known !== undefined) return resolve(known);
        const timer = setTimeout(
          () => reject(new Error(`No such line of ${entry.pathname} in ${limitMs} ms`)),
          limitMs,
        );
        const settle = (act: () => void) => {
          clearTimeout(timer);
          listeners.delete(listen);
          act();
        };
        const listen = (line: string) => fits(line) && settle(() => resolve(line));
        listeners.add(listen);
        ended.then(
          (end) => settle(() => reject(new Error(`${entry.pathname} ended with ${end}`))),
          (error: unknown) => settle(() => reject(error)),
        );
      }),
  };
}
