// How message streams end.

/**
 * The same messages, but when the signal aborts, the wait for the next one ends with its reason. A request stream does
 * not end by itself at shutdown: its handler would wait forever, and the client would see a broken connection instead
 * of an error.
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
        // Not awaited: a source that waits for bytes returns only after they arrive.
        return: () => {
          signal.removeEventListener("abort", onAbort);
          iterator.return?.().catch(() => undefined);
          return Promise.resolve({ done: true, value: undefined });
        },
      };
    },
  };
}

/** The same messages, each inspected before it is passed on. If `inspect` throws, the stream ends with that error. */
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
