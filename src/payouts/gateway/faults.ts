// The faults that the sandbox makes on demand, so that a person or a test can see what the service does with them.
// Pure.

/**
 * Each with what it does. Of busy, unsent and lying, and of lost, late, revert and reject, the first that comes up is
 * taken; the others are thrown for independently.
 */
export const faultMeanings = {
  busy: "a send is answered with SERVER_BUSY and is not taken",
  unsent: "a send is lost on its way: it is not taken, and there is no answer",
  lying: "a send is taken and called expired, or is called a duplicate and not taken",
  lost: "a send is answered with SUCCESS and then forgotten; sent again it is a duplicate",
  late: "a transaction comes into the last block that can hold it",
  revert: "a transaction runs out of energy: it moves nothing, and another one may succeed",
  reject: "a transaction is reverted by the contract: it moves nothing, and no other one is tried",
  unanswered: "a send is taken, but its answer is lost",
  lagging: "a read comes from a node that is up to 40 blocks behind",
  away: "a read fails",
} as const;

export type FaultName = keyof typeof faultMeanings;
/** How likely each is, 0 to 1, at each send or read. */
export type Faults = Readonly<Record<FaultName, number>>;

export const faultNames = Object.keys(faultMeanings) as readonly FaultName[];

const isFault = (name: string): name is FaultName => Object.hasOwn(faultMeanings, name);

export const noFaults: Faults = {
  ...{ busy: 0, unsent: 0, lying: 0, lost: 0, late: 0, revert: 0, reject: 0, unanswered: 0, lagging: 0, away: 0 },
};

/** Reads "lost=0.1,late=0.05"; an empty text has no faults. */
function read(text: string): Faults | string {
  const faults: Record<FaultName, number> = { ...noFaults };
  const named = new Set<string>();
  for (const part of text.split(",").map((one) => one.trim())) {
    if (part === "") continue;
    const [, name = "", value] = /^([a-z]+)=(0|1|[01]?\.[0-9]{1,6})$/.exec(part) ?? [];
    if (value === undefined || Number(value) > 1) return `${part} is not a fault and a probability such as lost=0.1`;
    if (!isFault(name)) return `${name} is not one of ${faultNames.join(", ")}`;
    if (named.has(name)) return `${name} is named twice`;
    named.add(name);
    faults[name] = Number(value);
  }
  return faults;
}

/** What is wrong with the text; undefined when it is fine. */
export function faultsProblem(text: string): string | undefined {
  const faults = read(text);
  return typeof faults === "string" ? faults : undefined;
}

/** @throws Error when the text has a problem */
export function parseFaults(text: string): Faults {
  const faults = read(text);
  if (typeof faults === "string") throw new Error(faults);
  return faults;
}
