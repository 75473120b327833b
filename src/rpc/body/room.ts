// Memory for large messages, shared by all calls: what does not fit is refused, since it would be the others' memory. Pure.

import { tooMany } from "../../failure.js";

/** Messages up to this size are not counted: their number is bounded by the streams of a connection. */
export const largeBytes = 512 * 1024;

/** What a caller is told whose message finds no room. */
export const noRoom = () => tooMany("Too many large requests at once", 1_000);

export interface Room {
  /** Takes room for a message until `give`; false when there is none. */
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
