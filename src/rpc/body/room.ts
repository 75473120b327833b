// Memory for large messages, shared by all calls. A message that does not fit is refused, so that it does not take
// memory from others. Pure.

import { tooMany } from "../../failure.js";

/** Smaller messages are not counted: a connection's number of streams bounds them. */
export const largeBytes = 512 * 1024;

/** The error for a message that finds no memory. */
export const noRoom = () => tooMany("Too many large requests at once", 1_000);

export interface Room {
  /** Reserves memory for a message until `give`; false when none is left. */
  take(bytes: number): boolean;
  give(bytes: number): void;
}

export function createRoom(bytesMax: number): Room {
  let taken = 0;
  return {
    take: (bytes) => {
      if (taken > 0 && taken + bytes > bytesMax) return false;
      taken += bytes;
      return true;
    },
    give: (bytes) => {
      taken -= bytes;
    },
  };
}
