// How many are written at once to a store that may be slow: after a write that failed fewer, for the many would never get
// through in time, after one that worked more again.

export interface Stride {
  size(): number;
  worked(): void;
  failed(): void;
}

export function createStride(max: number, min: number): Stride {
  let size = max;
  return {
    size: () => size,
    worked: () => {
      size = Math.min(max, size * 2);
    },
    failed: () => {
      size = Math.max(min, Math.floor(size / 4));
    },
  };
}
