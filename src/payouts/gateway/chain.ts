// What a chain in the manner of TRON does with time: a block every few seconds, solid when 19 others have followed, and
// a transaction in the first block after it was taken whose parent is older than its expiration (java-tron,
// Manager.validateCommon). Pure.

/** A block that is `blocksBehind` below the newest is solid: 19 of 27 producers have built on it. */
export const blocksBehind = 19;

/** The time of all blocks: this one was at that time, and the others follow and precede it at equal distances. */
export interface Slots {
  readonly number: number;
  readonly timeMs: number;
  readonly blockMs: number;
}

export const timeOf = ({ number, timeMs, blockMs }: Slots, block: number): number =>
  timeMs + (block - number) * blockMs;

/** The newest block at that time. */
export const blockAt = ({ number, timeMs, blockMs }: Slots, atMs: number): number =>
  number + Math.floor((atMs - timeMs) / blockMs);

/** Whether that block may hold a transaction with this expiration: its parent must be older. */
export const mayHold = (slots: Slots, block: number, expiresAtMs: number): boolean =>
  timeOf(slots, block - 1) < expiresAtMs;

/** The last block that may hold it. Its own time is at or after the expiration. */
export const lastBlockFor = (slots: Slots, expiresAtMs: number): number => {
  const before = blockAt(slots, expiresAtMs - 1);
  return before + 1;
};
