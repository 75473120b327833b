// The faults of the sandbox, on demand. Pure.

/** What may go wrong, and how likely it is each time, 0 to 1. */
export const faultMeanings = {
  unanswered: "a transaction is taken and its sender gets no answer",
  lost: "a transaction is taken and never reaches a block",
  late: "a transaction reaches the last block that can hold it",
  busy: "a transaction is not taken now",
  lying: "a transaction is taken and its sender is told that it has expired",
  revert: "a transaction reaches a block, burns its fee and moves nothing",
  away: "the chain does not answer a question",
} as const;
export type Fault = keyof typeof faultMeanings;
export type Faults = Readonly<Partial<Record<Fault, number>>>;

const isFault = (name: string): name is Fault => name in faultMeanings;

/** What is wrong with a list such as `lost=0.1,late=0.2`; undefined when it is fine. Empty text has no faults. */
export function faultsProblem(text: string): string | undefined {
  for (const [name, chance] of pairsOf(text)) {
    if (!isFault(name)) return `${name} is none of ${Object.keys(faultMeanings).join(", ")}`;
    if (!/^(0|1|0?[.][0-9]{1,6})$/.test(chance)) return `${name} needs a probability from 0 to 1, such as ${name}=0.1`;
  }
  return undefined;
}

/** Reads a list that has no problem. */
export const parseFaults = (text: string): Faults =>
  Object.fromEntries(pairsOf(text).map(([name, chance]) => [name, Number(chance)]));

const pairsOf = (text: string): [string, string][] =>
  text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .map((part) => {
      const [name = "", chance = ""] = part.split("=");
      return [name.trim(), chance.trim()];
    });
