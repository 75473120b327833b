// Programs as child processes: what they print, how they end, and what a test sends them meanwhile.
import { spawn } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { within } from "../support/world/until.js";

export interface Ending {
  /** The exit code, or the signal that ended it. */
  readonly code: number | NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Program extends AsyncDisposable {
  readonly pid: number | undefined;
  /** What it has printed so far. */
  readonly stdout: string;
  readonly stderr: string;
  write(text: string): void;
  closeInput(): void;
  kill(signal: NodeJS.Signals): void;
  /** Resolves once all output is read. */
  readonly ended: Promise<Ending>;
  /** Its exit code or signal, whether its output is read or not. */
  readonly exited: Promise<number | NodeJS.Signals | null>;
  /** The first match in its output, printed already or later. @throws Error when it ends or the limit passes first */
  printed(pattern: RegExp, limitMs?: number): Promise<RegExpExecArray>;
}

export interface ProgramOptions {
  readonly cwd?: string;
  /** Variables beside PATH and HOME; nothing else of this process's environment is passed on. */
  readonly env?: Readonly<Record<string, string>>;
  /** File descriptors that take its outputs; what goes there is not collected here. */
  readonly stdout?: number;
  readonly stderr?: number;
  /** Makes its standard output a socket whose other end is open but never read. Off by default. */
  readonly unread?: boolean;
}

/** Disposing kills the program if it still runs. */
export function startProgram(
  command: string,
  arguments_: readonly string[],
  { cwd, env = {}, unread = false, ...outputs }: ProgramOptions = {},
): Program {
  const { PATH = "", HOME = "" } = process.env;
  const compiled = join(tmpdir(), "lucid-compile-cache");
  const child = spawn(command, arguments_, {
    cwd,
    env: { PATH, HOME, NODE_COMPILE_CACHE: compiled, ...env },
    stdio: ["pipe", outputs.stdout ?? "pipe", outputs.stderr ?? "pipe"],
  });
  child.stdin?.on("error", () => undefined);
  const printed = { stdout: "", stderr: "" };
  const listeners = new Set<() => void>();
  for (const name of unread ? (["stderr"] as const) : (["stdout", "stderr"] as const)) {
    child[name]?.setEncoding("utf8").on("data", (text: string) => {
      printed[name] += text;
      for (const listener of listeners) listener();
    });
  }
  const ended = new Promise<Ending>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code: code ?? signal, ...printed }));
  });
  ended.catch(() => undefined);
  const exited = new Promise<number | NodeJS.Signals | null>((resolve) => {
    child.on("exit", (code, signal) => resolve(code ?? signal));
  });
  return {
    pid: child.pid,
    get stdout() {
      return printed.stdout;
    },
    get stderr() {
      return printed.stderr;
    },
    write: (text) => void child.stdin?.write(text),
    closeInput: () => void child.stdin?.end(),
    kill: (signal) => void child.kill(signal),
    ended,
    exited,
    printed: async (pattern, limitMs = 20_000) => {
      const { promise, resolve } = Promise.withResolvers<RegExpExecArray>();
      const look = () => {
        const match = pattern.exec(printed.stdout);
        if (match !== null) resolve(match);
      };
      listeners.add(look);
      look();
      const early = ended.then(({ code, stdout, stderr }) => {
        throw new Error(`${command} ended with ${code} before it printed ${pattern}:\n${stdout}${stderr}`);
      });
      early.catch(() => undefined);
      try {
        return await within(Promise.race([promise, early]), `${command} prints ${pattern}`, limitMs);
      } catch (error) {
        throw new Error(`${String(error)}\nprinted so far:\n${printed.stdout}${printed.stderr}`);
      } finally {
        listeners.delete(look);
      }
    },
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      if (unread) child.stdout?.destroy();
      await ended.catch(() => undefined);
    },
  };
}

/**
 * The environment of a package manager: the variables by which this machine reaches its registry (certificates,
 * proxies, settings). Variables that steer Node.js or the tests are left out.
 */
export const packageManagerEnvironment = (): Record<string, string> =>
  Object.fromEntries(
    Object.entries(process.env).filter(
      (entry): entry is [string, string] =>
        entry[1] !== undefined && !/^(NODE_OPTIONS|NODE_ENV|VITEST.*)$/.test(entry[0]),
    ),
  );

/** Runs a program to its end. */
export async function runProgram(
  command: string,
  arguments_: readonly string[],
  options: ProgramOptions & { readonly limitMs?: number } = {},
): Promise<Ending> {
  await using program = startProgram(command, arguments_, options);
  program.closeInput();
  return await within(program.ended, `${command} ${arguments_[0] ?? ""} ends`, options.limitMs ?? 30_000);
}
