// The messages that wait to be sent on one stream. Bounded: when the reader falls behind, newer acknowledgements
// replace older ones, and the stream of a reader too far behind for the rest is ended.
import type { Clock } from "../../clock.js";
import { unavailable } from "../../failure.js";
import type { Outgoing } from "./session.js";

/** Acknowledgements that may wait; beyond that the newest replaces the oldest. */
const acksMax = 16;
const messagesMax = 64;

export type Outbox = ReturnType<typeof createOutbox>;

export function createOutbox(clock: Clock) {
  const waiting: Outgoing[] = [];
  let acks = 0;
  let ended: { readonly error: unknown } | undefined;
  let wake: (() => void) | undefined;
  let handedAtMs: number | undefined;

  const end = (error?: unknown): void => {
    ended ??= { error };
    wake?.();
  };

  const push = (message: Outgoing): void => {
    if (ended !== undefined) return;
    if (message.kind === "ack") {
      if (acks >= acksMax) {
        const oldest = waiting.findIndex(({ kind }) => kind === "ack");
        waiting.splice(oldest, 1);
        acks--;
      }
      acks++;
    } else if (waiting.length >= messagesMax) {
      waiting.length = 0;
      end(unavailable("The stream's answers are not read", 1000));
      return;
    }
    waiting.push(message);
    wake?.();
  };

  return {
    push,
    end,
    /** Since when a message has been with the transport while others wait behind it. */
    stalledSinceMs: (): number | undefined => (waiting.length > 0 ? handedAtMs : undefined),

    /** The messages to send, in order, until the end; then the failure is thrown, if there is one. */
    async *messages(): AsyncGenerator<Outgoing, void, undefined> {
      for (;;) {
        const message = waiting.shift();
        if (message !== undefined) {
          if (message.kind === "ack") acks--;
          handedAtMs = clock.monotonicMs();
          yield message;
          handedAtMs = undefined;
        } else if (ended !== undefined) {
          if (ended.error !== undefined) throw ended.error;
          return;
        } else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
          wake = undefined;
        }
      }
    },
  };
}
