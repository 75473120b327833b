// Looks at the machine that may hang, each in a process of its own: none takes longer than its limit, none is begun while
// its like is still there, and none outlives this process.
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Clock } from "../clock.js";
import type { Parts } from "./reader.js";

/** Answers that part of the machine; undefined when it could not be read within the time. */
export type Look = <Name extends keyof Parts>(name: Name, argument?: string) => Promise<Parts[Name] | undefined>;

// Compiled, this file has its neighbour's ending, too.
const program = fileURLToPath(new URL(`./reader${import.meta.url.slice(-3)}`, import.meta.url));

/** Children that have not ended. */
const living = new Set<ChildProcess>();

/** Ends the child and all commands that it has begun: it leads a process group of its own. */
function end(child: ChildProcess): void {
  if (child.pid === undefined || !living.has(child)) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch (error) {
    // The group has ended by itself.
    if (!isSystemError(error)) throw error;
  }
}
process.on("exit", () => {
  for (const child of living) end(child);
});

/** A look that has not answered within `limitMs` is ended. A second caller gets the answer to the same look. */
export function createLook({ clock, limitMs }: { readonly clock: Clock; readonly limitMs: number }): Look {
  const running = new Map<keyof Parts, Promise<unknown>>();
  /** A child that not even SIGKILL ends, because it waits for a disk, would have company at each look. */
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

/** What the system answers to a call: a file that is not there, a process that it does not begin. */
export const isSystemError = (error: unknown): boolean => error instanceof Error && "syscall" in error;

/** Undefined where the system lets no process begin. */
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
    // It opens no window where commands have one.
    windowsHide: true,
  });
  // A look keeps nobody from ending.
  child.unref();
  child.channel?.unref();
  living.add(child);
  child.once("exit", () => living.delete(child));
  return child;
}

/** Undefined when the child ends without an answer, or cannot be begun. */
const answerOf = (child: ChildProcess): Promise<unknown> =>
  new Promise((resolve) => {
    child.once("message", resolve);
    child.once("exit", () => resolve(undefined));
    child.once("error", () => {
      living.delete(child);
      resolve(undefined);
    });
  });
