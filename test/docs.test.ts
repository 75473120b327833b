// The pages of the project match the project: the files that they name exist, and so do the words of the glossary.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { collections } from "../src/collections.js";
import { phases } from "../src/payouts/document.js";
import { faultMeanings } from "../src/payouts/gateway/faults.js";
import { isLegal, type Step, transitions } from "../src/payouts/payout.js";
import { createMetrics } from "../src/telemetry/metrics.js";

const root = new URL("..", import.meta.url);
const read = (file: string) => readFileSync(new URL(file, root), "utf8");
const all = (folder: string, ending: string): string =>
  readdirSync(new URL(folder, root), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(ending) && !file.startsWith("client/dist/"))
    .map((file) => read(`${folder}/${file}`))
    .join("\n");

const pages = [
  ...["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "test/README.md"],
  ...readdirSync(new URL("docs", root), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".md"))
    .map((file) => `docs/${file}`),
];

/** Paths in backticks on a page. A path with a star or braces means several files. */
const pathsIn = (text: string): string[] =>
  [...text.matchAll(/`((?:src|test|proto|gen|bench|docs|deploy|\.ci)\/[\w./-]*)`/g)].map(([, path = ""]) => path);

test.each(pages)("each file that %s names exists", (page) => {
  expect(pathsIn(read(page)).filter((path) => !existsSync(new URL(path, root)))).toEqual([]);
});

test("the five ways through name their files in order", () => {
  const ways = read("docs/architecture.md").split("## Five ways through")[1]?.split("\n## ")[0] ?? "";
  const sections = ways.split(/^\*\*/m).slice(1);
  expect(sections.map((section) => section.split(".**")[0])).toEqual([
    ...["A beat", "A change of a node", "A proof", "A sample", "A payout"],
  ]);
  for (const section of sections) expect(pathsIn(section).length).toBeGreaterThan(4);
});

const glossary = (read("docs/architecture.md").split("\n## Words")[1] ?? "")
  .split("\n")
  .filter((line) => line.startsWith("| ") && !line.startsWith("| word") && !line.startsWith("| ---"))
  .map((line) => line.split("|").map((cell) => cell.trim()));
const wordsIn = (cell = ""): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, word = ""]) => word);

test("the glossary has a row for each word, once", () => {
  const words = glossary.map(([, word]) => word);
  expect(new Set(words).size).toBe(words.length);
  expect(words.length).toBeGreaterThanOrEqual(25);
});

test("the words of the glossary are those of contract, code, store and metrics", () => {
  const proto = all("proto", ".proto");
  const code = all("src", ".ts");
  const stored = new Set(collections.map(({ name }) => name));
  const metrics = createMetrics({ service: "", version: "", environment: "" });
  const names = metrics.registry.getMetricsAsArray().map(({ name }) => name.replace("lucid_node_management_", ""));
  metrics.close();
  const has = (text: string, word: string) => new RegExp(`\\b${word.replace("*", "\\w+")}\\b`).test(text);
  const missing = glossary.flatMap(([, word, , inProto, inCode, inStore, inMetrics]) =>
    [
      ...wordsIn(inProto).filter((one) => !one.split(".").every((part) => has(proto, part))),
      ...wordsIn(inCode).filter((one) => !has(code, one)),
      ...wordsIn(inStore).filter((one) => {
        const [collection = "", field] = one.split(".");
        return !stored.has(collection) || (field !== undefined && !has(code, field));
      }),
      ...wordsIn(inMetrics).filter((one) => !names.includes(one)),
    ].map((one) => `${word}: ${one}`),
  );
  expect(missing).toEqual([]);
});

const payoutsPage = read("docs/payouts.md");
/** Rows of the table with this first line, each as its cells. */
const rowsOf = (page: string, titles: string): string[][] =>
  (page.split(`\n| ${titles} |\n`)[1] ?? "")
    .split("\n\n")[0]
    ?.split("\n")
    .filter((line) => line.startsWith("| ") && !line.startsWith("| ---"))
    .map((line) => line.slice(2, -2).split(" | ")) ?? [];

test("the page on payouts has each step with the phases that the code allows", () => {
  const told = rowsOf(payoutsPage, "step | from | to | what it says").map(([step, from, to]) => {
    return [...wordsIn(step), wordsIn(from).join(), to === "the same" ? to : wordsIn(to).join()];
  });
  const steps = (Object.keys(transitions) as Step[]).map((step) => {
    const rule: { readonly from: readonly string[]; readonly to: readonly string[] } = transitions[step];
    const keeps = rule.from.length > 1 && rule.from.join() === rule.to.join();
    return [step, rule.from.filter((phase) => phase !== "none").join(), keeps ? "the same" : rule.to.join()];
  });
  expect(told).toEqual(steps);
  // "The same" is what the code means, too.
  expect(isLegal("take", "building", "settling") || isLegal("ask", "sending", "settling")).toBe(false);
});

test("the page on payouts has each phase, and each fault of the sandbox in its own words", () => {
  const phaseRows = rowsOf(payoutsPage, "phase | status | what happens");
  expect(phaseRows.map(([phase]) => wordsIn(phase)[0])).toEqual([...phases]);
  const faultRows = rowsOf(payoutsPage, "fault | what happens").map(([fault, meaning]) => [wordsIn(fault)[0], meaning]);
  expect(faultRows).toEqual(Object.entries(faultMeanings));
});

test("the page on payouts has each reason that a payout may be given, and no other", () => {
  const given = [...all("src/payouts", ".ts").matchAll(/code: "([A-Z_]+)",\s+message/g)].map(([, code = ""]) => code);
  const told = rowsOf(payoutsPage, "code | what it means | what to do").map(([code]) => wordsIn(code)[0]);
  expect(new Set(told).size).toBe(told.length);
  expect([...told].sort()).toEqual([...new Set(given)].sort());
});
