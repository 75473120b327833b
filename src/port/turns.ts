// Runs work a little at a time, one client after the other. A client with much work delays only itself, and the event
// loop handles other events in between.

/** The work of one client, from `next` on. */
interface Brought {
  readonly work: (() => void)[];
  next: number;
}

/**
 * @param perTurn pieces of work in one turn of the event loop; their asynchronous continuations run in the same turn
 */
export function createTurns(perTurn: number): (who: object, work: () => void) => void {
  // In the order of their next turn.
  const waiting = new Map<object, Brought>();
  let isRunning = false;

  const run = (): void => {
    for (let done = 0; done < perTurn; done++) {
      const [first] = waiting;
      if (first === undefined) {
        isRunning = false;
        return;
      }
      const [who, brought] = first;
      waiting.delete(who);
      const work = brought.work[brought.next++];
      if (brought.next < brought.work.length) waiting.set(who, brought);
      work?.();
    }
    setImmediate(run);
  };

  return (who, work) => {
    const brought = waiting.get(who);
    if (brought) brought.work.push(work);
    else waiting.set(who, { work: [work], next: 0 });
    if (isRunning) return;
    isRunning = true;
    setImmediate(run);
  };
}
