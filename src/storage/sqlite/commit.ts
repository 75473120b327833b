// Group commit: writes that arrive together share one COMMIT, so one wait for the disk acknowledges them all.
import { StoreUnavailableError } from "../collection.js";
import { type Database, translateError } from "./file.js";

/** The turn of the event loop in which a piece of work runs. */
export interface Turn {
  /**
   * Whether the turn has used up its time. Work of many steps checks after each step, stops when true, and continues in
   * a later turn.
   */
  isOver(): boolean;
}

export interface CommitQueue {
  /**
   * Runs the work within the next transaction, in one turn of the event loop that nothing interrupts, and resolves once
   * it is on disk. Work that throws is undone alone, and its error rejects. A turn takes work until it has lasted 8 ms,
   * and so ends at most one step of work later.
   * @throws StoreUnavailableError when the commit fails, too much work waits or the queue is closed; nothing is written
   * then
   */
  run<Result>(work: (turn: Turn) => Result): Promise<Result>;
  /** Commits the waiting work. Later work is refused. */
  close(): void;
}

interface Waiting {
  readonly work: (turn: Turn) => unknown;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
}

// A longer turn would delay heartbeats noticeably; a shorter one would share the disk among fewer writes.
const turnMs = 8;
const groupMax = 256;
const waitingMax = 10_000;

export function createCommitQueue(database: Database): CommitQueue {
  let waiting: Waiting[] = [];
  let scheduled = false;
  let closed = false;

  const schedule = () => {
    if (scheduled) return;
    scheduled = true;
    setImmediate(() => {
      scheduled = false;
      turn();
    });
  };
  const turn = () => {
    const taken = commitGroup(database, waiting);
    waiting = waiting.slice(taken);
    if (waiting.length > 0) schedule();
  };
  return {
    run: <Result>(work: (turn: Turn) => Result) =>
      new Promise<Result>((resolve, reject) => {
        if (closed) throw new StoreUnavailableError("The store is closed");
        if (waiting.length >= waitingMax) throw new StoreUnavailableError("Too many writes are waiting for the disk");
        waiting.push({ work, resolve: resolve as (result: unknown) => void, reject });
        schedule();
      }),
    close: () => {
      closed = true;
      while (waiting.length > 0) turn();
    },
  };
}

/**
 * Runs and commits the first waiting work, settles it and returns how many pieces it was: at least one, if any waits.
 */
function commitGroup(database: Database, waiting: readonly Waiting[]): number {
  const endMs = performance.now() + turnMs;
  const turn: Turn = { isOver: () => performance.now() >= endMs };
  const settlements: (() => void)[] = [];
  let taken = 0;
  try {
    if (waiting.length > 0) database.exec("BEGIN IMMEDIATE");
    for (const one of waiting.slice(0, groupMax)) {
      taken++;
      settlements.push(attempt(database, one, turn));
      if (turn.isOver()) break;
    }
    if (waiting.length > 0) database.exec("COMMIT");
  } catch (error) {
    if (database.isTransaction) database.exec("ROLLBACK");
    const cause = translateError(error);
    for (const { reject } of waiting.slice(0, Math.max(taken, 1))) {
      reject(new StoreUnavailableError("The embedded store could not commit", { cause }));
    }
    return Math.max(taken, 1);
  }
  for (const settle of settlements) settle();
  return taken;
}

/**
 * Runs one piece of work; returns how to settle it after the COMMIT. If the work throws, its changes are undone and the
 * group goes on. If SQLite itself ended the transaction, as it does when the disk is full, the whole group fails.
 */
function attempt(database: Database, { work, resolve, reject }: Waiting, turn: Turn): () => void {
  database.exec("SAVEPOINT one");
  try {
    const result = work(turn);
    database.exec("RELEASE one");
    return () => resolve(result);
  } catch (error) {
    if (!database.isTransaction) throw error;
    database.exec("ROLLBACK TO one");
    database.exec("RELEASE one");
    return () => reject(error);
  }
}
