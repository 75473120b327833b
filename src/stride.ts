// How many are written at once to a store that may be slow: after a write that failed fewer, for the many would never get
// through in time; after one that worked more again, in small steps where it failed before.

export interface Stride {
  size(): number;
  worked(): void;
  failed(): void;
}

export function createStride(max: number, min: number): Stride {
  let size = max;
  /** What did not work the last time. */
  let ceiling = Number.POSITIVE_INFINITY;
  return {
    size: () => size,
    worked: () => {
      if (size >= ceiling) ceiling = Number.POSITIVE_INFINITY;
      const step = size * 2 < ceiling ? size : Math.max(1, Math.floor(size / 16));
      size = Math.min(max, size + step);
    },
    failed: () => {
      ceiling = size;
      size = Math.max(min, Math.floor(size / 4));
    },
  };
}
