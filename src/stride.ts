// How many are written at once to a store that may be slow: after a write that failed fewer, for the many would never get
// through in time; after one that worked more again, in small steps where it failed before.

export interface Stride {
  size(): number;
  /** Does a write of that size, and learns from it. */
  attempt(write: () => Promise<void>): Promise<void>;
}

export function createStride(max: number, min: number): Stride {
  let size = max;
  /** What did not work the last time. */
  let ceiling = Number.POSITIVE_INFINITY;
  return {
    size: () => size,
    attempt: async (write) => {
      try {
        await write();
      } catch (error) {
        ceiling = size;
        size = Math.max(min, Math.floor(size / 4));
        throw error;
      }
      if (size >= ceiling) ceiling = Number.POSITIVE_INFINITY;
      const step = size * 2 < ceiling ? size : Math.max(1, Math.floor(size / 16));
      size = Math.min(max, size + step);
    },
  };
}
