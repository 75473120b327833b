// A queue of the messages that a stream's client is to send.

/** `onFull` is called for each item that is refused because the queue is full. */
export function createQueue<T>(max = Number.POSITIVE_INFINITY, onFull: () => void = () => undefined) {
  const waiting: T[] = [];
  let closed = false;
  let wake: (() => void) | undefined;
  return {
    push: (item: T): void => {
      if (closed) return;
      if (waiting.length < max) {
        waiting.push(item);
        wake?.();
      } else onFull();
    },
    close: (): void => {
      closed = true;
      wake?.();
    },
    async *items(): AsyncGenerator<T, void, undefined> {
      for (;;) {
        const item = waiting.shift();
        if (item !== undefined) yield item;
        else if (closed) return;
        else
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
      }
    },
  };
}
