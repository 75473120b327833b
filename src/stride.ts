// Adaptive batch size for a slow store: quarter it after a failed write, double it after a success, and grow in
// sixteenths near the size that failed last.

export interface Stride {
  size(): number;
  /** Runs a write of that size, and adapts the size to its outcome. */
  attempt(write: () => Promise<void>): Promise<void>;
}

export function createStride(max: number, min: number): Stride {
  let size = max;
  /** The size that failed last. */
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
