// Work in turns: no caller waits for all the work that another one brought, and each turn of the event loop is short.
import { expect, test } from "vitest";
import { createTurns } from "../../src/port/turns.js";

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("those who bring work take turns, each in the order in which it was brought", async () => {
  const later = createTurns(2);
  const done: string[] = [];
  const [much, little] = [{}, {}];
  for (let index = 0; index < 5; index++) later(much, () => done.push(`much ${index}`));
  later(little, () => done.push("little"));
  expect(done).toEqual([]);
  while (done.length < 6) await turn();
  expect(done).toEqual(["much 0", "little", "much 1", "much 2", "much 3", "much 4"]);
});

test("so many pieces run in a turn and no more, and what is brought meanwhile is taken in", async () => {
  const later = createTurns(3);
  const who = {};
  const turns: number[] = [];
  let count = 0;
  const piece = () => {
    count++;
    if (count === 4) later({}, piece);
  };
  for (let index = 0; index < 9; index++) later(who, piece);
  while (count < 10) {
    const before = count;
    await turn();
    turns.push(count - before);
  }
  expect(Math.max(...turns)).toBeLessThanOrEqual(3);
  later(who, piece);
  await turn();
  await turn();
  expect(count).toBe(11);
});
