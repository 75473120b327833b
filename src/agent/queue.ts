// What a stream's client is to send, one after the other.

export function createQueue<T>() {
  const waiting: T[] = [];
  let closed = false;
  let wake: (() => void) | undefined;
  return {
    push: (item: T): void => {
      if (closed) return;
      waiting.push(item);
      wake?.();
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
