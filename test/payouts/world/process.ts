// A process of the simulated world: it can die, and it can freeze and come back much later without noticing. Each call
// that it makes to the world outside takes time, and may meet one fault.
import type { Answer } from "../../../src/payouts/gateway/gateway.js";
import { createWorldClock, type Scheduler, type WorldClock } from "./scheduler.js";

/** What happens to one call. `before` and `after`: before or after it takes effect on the other side. */
export type Fault =
  /** The process dies. */
  | { readonly kind: "crash"; readonly when: "before" | "after" }
  /** The process freezes; once it goes on, it sends the call, or hears its answer or that there is none. */
  | { readonly kind: "freeze"; readonly when: "before" | "after"; readonly lost: boolean }
  /** The caller hears that nobody answered; for so long no later call of it has an answer either. */
  | { readonly kind: "lost"; readonly applied: boolean; readonly blindMs: number }
  /** The caller hears that nobody answered, and the call takes effect so much later. */
  | { readonly kind: "late"; readonly ms: number }
  /** A send only: it takes effect once more, so much later. */
  | { readonly kind: "twice"; readonly ms: number }
  /** A send only: the node says something else than what it did. */
  | { readonly kind: "lie"; readonly applied: boolean; readonly answer: Answer };

/** A call of a process. Writes and effects are counted; reads are not. */
export interface Point {
  readonly process: Process;
  readonly kind: "read" | "write" | "effect";
  /** Such as "payouts send" or "gateway send". */
  readonly name: string;
  /** Of a send: its transaction. */
  readonly txid?: string;
}

export interface Process {
  readonly name: string;
  readonly clock: WorldClock;
  readonly control: AbortController;
  readonly state: "alive" | "frozen" | "dead";
  crash(): void;
  freeze(): void;
  thaw(): void;
  /** Runs the work now; later, if the process is frozen; never, if it is dead. */
  whileAlive(run: () => void): void;
  /** Until this time of the world none of its calls is answered. */
  blindUntilMs: number;
}

export function createProcess(name: string, scheduler: Scheduler, changed: (what: string) => void): Process {
  let state: Process["state"] = "alive";
  let held: (() => void)[] = [];
  const whileAlive = (run: () => void): void => {
    if (state === "alive") run();
    else if (state === "frozen") held.push(run);
  };
  const process: Process = {
    name,
    clock: createWorldClock(scheduler, whileAlive),
    control: new AbortController(),
    blindUntilMs: 0,
    get state() {
      return state;
    },
    crash: () => {
      if (state !== "dead") changed("dies");
      state = "dead";
      held = [];
    },
    freeze: () => {
      if (state !== "alive") return;
      changed("freezes");
      state = "frozen";
    },
    thaw: () => {
      if (state !== "frozen") return;
      changed("goes on");
      state = "alive";
      const waiting = held;
      held = [];
      // What runs first may freeze or end the process again.
      for (const run of waiting) whileAlive(run);
    },
    whileAlive,
  };
  return process;
}

/** How long one way of a call takes, and what happens to it. */
export interface Weather {
  delayMs(point: Point): number;
  fault(point: Point): Fault | undefined;
}

/** How long a caller waits before it gives up on an answer. */
const patienceMs = 1_000;

export interface Call<T> {
  /** Takes effect on the other side, at once when it is called. */
  readonly apply: () => Promise<T>;
  /** What the caller hears when no answer comes: a value or an error. */
  readonly unanswered: () => T | Error;
  /** What the caller hears when the other side lies. Absent: it never does. */
  readonly lied?: (answer: Answer) => T;
  /** The call leaves the process, and nothing can stop it any more. */
  readonly departs?: () => void;
}

/** Makes a call through the weather of the world. */
export function call<T>(
  parts: { readonly scheduler: Scheduler; readonly weather: Weather },
  point: Point,
  { apply, unanswered, lied, departs }: Call<T>,
): Promise<T> {
  const { scheduler, weather } = parts;
  const { process } = point;
  return new Promise<T>((resolve, reject) => {
    const end = (value: T | Error): void => (value instanceof Error ? reject(value) : resolve(value));
    const hear = (ms: number, listen: () => void) => scheduler.after(ms, () => process.whileAlive(listen));
    const giveUp = () => hear(patienceMs, () => end(unanswered()));
    const arrive = (fault: Fault | undefined): void => {
      const outcome = apply();
      outcome.catch(ignored);
      if (fault?.kind === "crash") process.crash();
      if (fault?.kind === "freeze") process.freeze();
      if (fault?.kind === "twice") scheduler.after(fault.ms, () => void apply().catch(ignored));
      if (fault?.kind === "lost" || (fault?.kind === "freeze" && fault.lost)) {
        giveUp();
        return;
      }
      const backMs = weather.delayMs(point);
      outcome.then(
        (value) => hear(backMs, () => resolve(fault?.kind === "lie" && lied ? lied(fault.answer) : value)),
        (error: unknown) => hear(backMs, () => reject(error)),
      );
    };
    const leave = (fault: Fault | undefined): void => {
      departs?.();
      const isBlind = scheduler.nowMs() < process.blindUntilMs;
      if (fault?.kind === "lost" && fault.blindMs > 0) process.blindUntilMs = scheduler.nowMs() + fault.blindMs;
      if (fault?.kind === "late") scheduler.after(fault.ms, () => void apply().catch(ignored));
      const isHeard = fault === undefined || !("applied" in fault) || fault.applied;
      if (fault?.kind === "lie" && !fault.applied)
        hear(weather.delayMs(point), () => end(lied?.(fault.answer) ?? unanswered()));
      else if (isBlind || fault?.kind === "late" || !isHeard) giveUp();
      else scheduler.after(weather.delayMs(point), () => arrive(fault));
    };
    const ask = (fault: Fault | undefined): void => {
      if (fault?.kind === "crash" && fault.when === "before") process.crash();
      else if (fault?.kind === "freeze" && fault.when === "before") {
        process.freeze();
        process.whileAlive(() => leave(fault.lost ? { kind: "lost", applied: true, blindMs: 0 } : undefined));
      } else leave(fault);
    };
    if (process.state !== "dead") process.whileAlive(() => ask(weather.fault(point)));
  });
}

/** The caller has heard already that nobody answered. */
const ignored = () => undefined;
