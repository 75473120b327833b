// Work is run a little at a time, one client after the other. A client with much work delays only itself, and the event loop
// hears what comes in between.

/** The work that one has brought, from `next` on. */
interface Brought {
  readonly work: (() => void)[];
  next: number;
}

/** @param perTurn how many pieces of work run in one turn; what they go on with asynchronously runs in the same one */
export function createTurns(perTurn: number): (who: object, work: () => void) => void {
  // In the order in which they are asked for their next piece.
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
