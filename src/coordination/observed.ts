// Counts and times the operations of the coordination, whichever engine it is.
import { type Clock, systemClock } from "../clock.js";
import type { Coordination } from "./coordination.js";

/** Called when an operation has ended. A hit above its limit is a success. */
export type ObserveCoordination = (operation: string, outcome: "success" | "error", seconds: number) => void;

/** Subscriptions are not counted: they wait for as long as the engine is away. */
export function observeCoordination(
  coordination: Coordination,
  observe: ObserveCoordination,
  clock: Pick<Clock, "monotonicMs"> = systemClock,
): Coordination {
  const timed =
    <Arguments extends unknown[], Result>(operation: string, call: (...given: Arguments) => Promise<Result>) =>
    async (...given: Arguments): Promise<Result> => {
      const beganMs = clock.monotonicMs();
      let outcome: "success" | "error" = "error";
      try {
        const result = await call(...given);
        outcome = "success";
        return result;
      } finally {
        observe(operation, outcome, (clock.monotonicMs() - beganMs) / 1000);
      }
    };
  return {
    engine: coordination.engine,
    hit: timed("hit", coordination.hit.bind(coordination)),
    publish: timed("publish", coordination.publish.bind(coordination)),
    subscribe: coordination.subscribe.bind(coordination),
    ping: timed("ping", coordination.ping.bind(coordination)),
    [Symbol.asyncDispose]: () => coordination[Symbol.asyncDispose](),
  };
}
