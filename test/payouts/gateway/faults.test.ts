// Faults on demand: what can be asked for, and what is refused with which words.
import { describe, expect, test } from "vitest";
import { faultNames, faultsProblem, noFaults, parseFaults } from "../../../src/payouts/gateway/faults.js";

describe("faults on demand", () => {
  test.each([
    ["", {}],
    ["lost=0.1", { lost: 0.1 }],
    [" lost=0.1 , late=1,away=0, busy=.5,", { lost: 0.1, late: 1, busy: 0.5 }],
    ["unanswered=0.000001", { unanswered: 0.000001 }],
  ])("%j is read", (text, faults) => {
    expect(faultsProblem(text)).toBeUndefined();
    expect(parseFaults(text)).toEqual({ ...noFaults, ...faults });
  });

  test.each([
    ["lost", "lost is not a fault and a probability such as lost=0.1"],
    ["lost=", "lost= is not a fault and a probability such as lost=0.1"],
    ["lost=1.5", "lost=1.5 is not a fault and a probability such as lost=0.1"],
    ["lost=-0.1", "lost=-0.1 is not a fault and a probability such as lost=0.1"],
    ["lost=1e-3", "lost=1e-3 is not a fault and a probability such as lost=0.1"],
    ["lost=0.1;late=0.1", "lost=0.1;late=0.1 is not a fault and a probability such as lost=0.1"],
    ["lost=0.1,lost=0.2", "lost is named twice"],
    ["fire=0.1", `fire is not one of ${faultNames.join(", ")}`],
    ["constructor=0.1", `constructor is not one of ${faultNames.join(", ")}`],
  ])("%j is refused", (text, problem) => {
    expect(faultsProblem(text)).toBe(problem);
    expect(() => parseFaults(text)).toThrow(problem);
  });

  test("each fault can be asked for by itself", () => {
    expect(faultNames.length).toBe(10);
    for (const name of faultNames) expect(parseFaults(`${name}=1`)).toEqual({ ...noFaults, [name]: 1 });
  });
});
