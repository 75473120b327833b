// Reads parts of the machine that may hang, each in its own process. No read takes longer than its limit, none starts
// while one of the same kind still runs, and none outlives this process.
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Clock } from "../clock.js";
import type { Parts } from "./reader.js";

/** Reads that part of the machine; undefined if it could not be read in time. */
export type Look = <Name extends keyof Parts>(name: Name, argument?: string) => Promise<Parts[Name] | undefined>;

// When compiled, this file and its neighbour have another file extension.
const program = fileURLToPath(new URL(`./reader${import.meta.url.slice(-3)}`, import.meta.url));

/** Child processes that have not ended. */
const living = new Set<ChildProcess>();

/** Kills the child and all commands that it has started: it leads its own process group. */
function end(child: ChildProcess): void {
  if (child.pid === undefined || !living.has(child)) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch (error) {
    // The group has already ended.
    if (!isSystemError(error)) throw error;
  }
}
process.on("exit", () => {
  for (const child of living) end(child);
});

/** Kills a read that has not answered within `limitMs`. Concurrent callers share one read. */
export function createLook({ clock, limitMs }: { readonly clock: Clock; readonly limitMs: number }): Look {
  const running = new Map<keyof Parts, Promise<unknown>>();
  /**
   * Children that even SIGKILL does not end, because they wait for a disk. Without this, each read would add another.
   */
  const stuck = new Map<keyof Parts, ChildProcess>();

  const begin = async (name: keyof Parts, argument: string): Promise<unknown> => {
    const over = new AbortController();
    const child = started(name, argument);
    if (child === undefined) return undefined;
    stuck.set(name, child);
    const answered = answerOf(child).finally(() => over.abort());
    const late = clock.sleep(limitMs, over.signal).then(() => undefined);
    try {
      return await Promise.race([answered, late]);
    } finally {
      over.abort();
      end(child);
    }
  };

  return <Name extends keyof Parts>(name: Name, argument = "") => {
    let look = running.get(name);
    if (look === undefined) {
      const former = stuck.get(name);
      if (former !== undefined && living.has(former)) return Promise.resolve(undefined);
      look = begin(name, argument).finally(() => running.delete(name));
      running.set(name, look);
    }
    return look as Promise<Parts[Name] | undefined>;
  };
}

/** Whether the error comes from a system call: a missing file, a process that cannot be started. */
export const isSystemError = (error: unknown): boolean => error instanceof Error && "syscall" in error;

/** Undefined if the system cannot start a process. */
function started(name: keyof Parts, argument: string): ChildProcess | undefined {
  try {
    return start(name, argument);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return undefined;
  }
}

function start(name: keyof Parts, argument: string): ChildProcess {
  const child = spawn(process.execPath, [program, name, argument], {
    stdio: ["ignore", "ignore", "ignore", "ipc"],
    serialization: "advanced",
    detached: true,
    // Do not open a window on systems where commands have one.
    windowsHide: true,
  });
  // A read must not keep this process alive.
  child.unref();
  child.channel?.unref();
  living.add(child);
  child.once("exit", () => living.delete(child));
  return child;
}

/** Undefined if the child ends without an answer or cannot be started. */
const answerOf = (child: ChildProcess): Promise<unknown> =>
  new Promise((resolve) => {
    child.once("message", resolve);
    child.once("exit", () => resolve(undefined));
    child.once("error", () => {
      living.delete(child);
      resolve(undefined);
    });
  });
