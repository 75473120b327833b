// Endings of message streams.

/**
 * The same messages, but waiting for the next one ends with the signal's reason when the signal aborts.
 * A request stream alone does not end when the server shuts down: its handler would wait for a message for ever, and the
 * client would see a broken connection instead of an error.
 */
export function untilAborted<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncIterable<T> {
  return {
    [Symbol.asyncIterator]() {
      const iterator = source[Symbol.asyncIterator]();
      let refuse: ((reason: unknown) => void) | undefined;
      const onAbort = () => refuse?.(signal.reason);
      signal.addEventListener("abort", onAbort, { once: true });
      return {
        next: () =>
          new Promise<IteratorResult<T>>((resolve, reject) => {
            if (signal.aborted) return reject(signal.reason);
            refuse = reject;
            iterator.next().then(resolve, reject);
          }),
        // Not awaited: a source that is waiting for bytes answers a return only after them.
        return: () => {
          signal.removeEventListener("abort", onAbort);
          iterator.return?.().catch(() => undefined);
          return Promise.resolve({ done: true, value: undefined });
        },
      };
    },
  };
}

/** The same messages, each one looked at before it is passed on; a throw ends the stream with it. */
export function inspected<T>(source: AsyncIterable<T>, inspect: (message: T) => void): AsyncIterable<T> {
  return {
    [Symbol.asyncIterator]() {
      const iterator = source[Symbol.asyncIterator]();
      return {
        next: async () => {
          const result = await iterator.next();
          if (!result.done) inspect(result.value);
          return result;
        },
        return: async () => (await iterator.return?.()) ?? { done: true, value: undefined },
      };
    },
  };
}
