// Group commit: writes that arrive together share one COMMIT, so one wait for the disk acknowledges them all.
import { StoreUnavailableError } from "../collection.js";
import { type Database, translateError } from "./file.js";

/** The turn of the event loop that a piece of work runs in. */
export interface Turn {
  /**
   * Whether it has lasted as long as a turn may. Work that consists of many steps looks after each, stops then, and goes
   * on in a later turn.
   */
  isOver(): boolean;
}

export interface CommitQueue {
  /**
   * Runs the work within the next transaction, in one turn of the event loop that nothing can come between, and resolves
   * once it is on disk. Work that throws is undone alone, and its error rejects. A turn takes pieces of work until it has
   * lasted 8 ms: it ends at most one step of work later.
   * @throws StoreUnavailableError when the commit fails, too many wait or the queue is closed; nothing is then written
   */
  run<Result>(work: (turn: Turn) => Result): Promise<Result>;
  /** Commits what waits; later work is refused. */
  close(): void;
}

interface Waiting {
  readonly work: (turn: Turn) => unknown;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
}

// A turn this long delays heartbeats noticeably, a shorter one shares the disk among fewer writes.
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
        if (waiting.length >= waitingMax) throw new StoreUnavailableError("Too many writes wait for the disk");
        waiting.push({ work, resolve: resolve as (result: unknown) => void, reject });
        schedule();
      }),
    close: () => {
      closed = true;
      while (waiting.length > 0) turn();
    },
  };
}

/** Runs and commits the first of those waiting, settles them and answers how many they were: at least one, if any waits. */
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
 * The settlement to call after the COMMIT. What the work did before it threw is undone, and the group goes on, unless
 * SQLite itself gave up the transaction, as it does when the disk is full: then the group fails as a whole.
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
