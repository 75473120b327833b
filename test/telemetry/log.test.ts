import { describe, expect, test } from "vitest";
import { createLogger, type LogOptions } from "../../src/telemetry/log.js";
import { redactText } from "../../src/telemetry/redact.js";

function capture(options: Partial<LogOptions> = {}) {
  const lines: string[] = [];
  const write = (line: string) => void lines.push(line);
  const log = createLogger({
    level: "INFO",
    format: "json",
    service: "node-management",
    version: "1.0.0",
    write,
    ...options,
  });
  return { log, lines, parsed: () => lines.map((line) => JSON.parse(line)) };
}

test("a line is JSON with the fields of the specification and its context", () => {
  const { log, parsed } = capture();
  log.module("nodes").warn("Failed to start node", { request_id: "r-1", node_id: "node_1" });
  expect(parsed()).toEqual([
    {
      timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      level: "WARNING",
      logger: "node",
      message: "Failed to start node",
      module: "nodes",
      service: "node-management",
      version: "1.0.0",
      request_id: "r-1",
      node_id: "node_1",
    },
  ]);
});

test.each([
  ["DEBUG", ["DEBUG", "INFO", "WARNING", "ERROR"]],
  ["INFO", ["INFO", "WARNING", "ERROR"]],
  ["WARNING", ["WARNING", "ERROR"]],
  ["ERROR", ["ERROR"]],
] as const)("level %s writes %j", (level, written) => {
  const { log, parsed } = capture({ level });
  log.debug("x");
  log.info("x");
  log.warn("x");
  log.error("x");
  expect(parsed().map((line) => line.level)).toEqual(written);
  expect(log.enabled("DEBUG")).toBe(level === "DEBUG");
});

test("an error brings its stack and its causes", () => {
  const { log, parsed } = capture();
  log.error("broken", { error: new Error("outer", { cause: new Error("inner") }) });
  expect(parsed()[0].exception).toMatch(/Error: outer[\s\S]*caused by: Error: inner/);
});

test("context cannot pass for the line's own fields", () => {
  const { log, lines, parsed } = capture();
  log.info("real", { message: "false", level: "false", service: "false" });
  expect(parsed()[0]).toMatchObject({ message: "real", level: "INFO", service: "node-management", message_: "false" });
  expect(lines[0]?.match(/"message":/g)).toHaveLength(1);
});

test("standard is a line for people", () => {
  const { log, lines } = capture({ format: "standard" });
  log.info("Started node", { node_id: "node_1", took: { ms: 3 } });
  expect(lines[0]).toMatch(/^\S+Z INFO main: Started node node_id=node_1 took={"ms":3}\n$/);
});

describe("what no log may hold", () => {
  const secret = "s3cr3t-value";
  const address = "TJRabPrwbZy45sbavfcjinPJC18kjpRTv8";
  test.each([
    ["a header", { headers: { Authorization: `Bearer ${secret}` } }],
    ["a token", { accessToken: secret, refresh_token: secret }],
    ["a secret", { jwt_secret_key: secret, password: secret, encryptionKey: secret }],
    ["a URL's credentials", { url: `mongodb://lucid:${secret}@mongo:27017/lucid` }],
    ["a bearer token in a text", { note: `sent Bearer ${secret}` }],
    ["an error's text", { error: new Error(`redis://:${secret}@redis refused`) }],
    ["a cause's text", { error: new Error("outer", { cause: new Error(`Bearer ${secret}`) }) }],
    ["a list", { tried: [{ token: secret }] }],
    ["a wallet", { wallet_address: address, payoutAddress: address, note: `paid to ${address}` }],
  ])("%s", (_name, fields) => {
    const { log, lines } = capture();
    log.info(`said Bearer ${secret}`, fields);
    expect(lines.join()).not.toContain(secret);
    expect(lines.join()).not.toContain(address);
    expect(lines).toHaveLength(1);
  });

  test("a cyclic context is cut, bytes are counted, big numbers are written", () => {
    const cyclic: Record<string, unknown> = { size: 10n ** 20n, key: new Uint8Array(3) };
    cyclic.self = cyclic;
    const { log, parsed } = capture();
    log.info("x", cyclic);
    expect(parsed()[0]).toMatchObject({ size: "100000000000000000000", key: "[3 bytes]" });
  });

  test("a page token's name is no reason to hide a node's", () => {
    const { log, parsed } = capture();
    log.info("x", { token_type: "node_access", node_id: "node_1" });
    expect(parsed()[0]).toMatchObject({ token_type: "node_access", node_id: "node_1" });
  });
});

describe("text of others in a line", () => {
  const forged = "2026-01-01T00:00:00.000Z ERROR main: forged";
  const tricks: readonly (readonly [string, string])[] = [
    ["a line feed", `x\n${forged}`],
    ["a carriage return", `x\r${forged}`],
    ["a vertical tab and a form feed", `x\v${forged}\f${forged}`],
    ["NUL", `x\0${forged}`],
    ["NEL of C1", `x\u0085${forged}`],
    ["a line separator", `x\u2028${forged}`],
    ["a paragraph separator", `x\u2029${forged}`],
    ["an escape sequence that clears the screen", `x\u001b[2J${forged}`],
    ["a CSI of C1", `x\u009b2J${forged}`],
    ["a title for the terminal", `x\u001b]0;title\u0007`],
    ["DEL and backspaces", `x\u007f\b\b\b${forged}`],
    ["an override of the direction", `x\u202e${forged}\u202c`],
    ["isolates", `x\u2066${forged}\u2069`],
    ["marks of direction", `x\u200f${forged}\u200e\u061c`],
    ["a byte order mark", `\ufeff${forged}`],
  ];
  const places: readonly (readonly [string, (log: ReturnType<typeof createLogger>, text: string) => void])[] = [
    ["a value", (log, text) => log.info("called", { path: text })],
    ["a key", (log, text) => log.info("called", { [text]: 1 })],
    ["a value deeper down", (log, text) => log.info("called", { at: { [text]: [text] } })],
    ["the message", (log, text) => log.info(text)],
    ["the module", (log, text) => log.module(text).info("called")],
    ["an error", (log, text) => log.error("broken", { error: new Error(text) })],
    ["a cause", (log, text) => log.error("broken", { error: new Error("outer", { cause: new Error(text) }) })],
    ["what was thrown and is no error", (log, text) => log.error("broken", { error: text })],
  ];
  const cases = tricks.flatMap(([trick, text]) => places.map(([place, put]) => ({ trick, place, text, put })));
  const dangerous = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/u;

  test.each(cases)("$trick in $place cannot begin a line or steer a terminal (standard)", ({ text, put }) => {
    const { log, lines } = capture({ format: "standard" });
    put(log, text);
    expect(lines).toHaveLength(1);
    const [first = "", ...below] = (lines[0] ?? "").trimEnd().split("\n");
    expect(first).toMatch(/^\d{4}-\d\d-\d\dT\S+Z (INFO|ERROR) /);
    for (const line of below) expect(line).toMatch(/^ {4}/);
    for (const line of [first, ...below]) expect(line).not.toMatch(dangerous);
  });

  test.each(cases)("$trick in $place is the same text for who reads JSON", ({ text, put }) => {
    const { log, lines, parsed } = capture();
    put(log, text);
    expect(lines).toHaveLength(1);
    expect(lines[0]?.trimEnd()).not.toMatch(dangerous);
    expect(JSON.stringify(parsed()[0])).toContain(JSON.stringify(text).slice(1, -1));
  });

  test("a value of several words cannot pass for further fields", () => {
    const { log, lines } = capture({ format: "standard" });
    log.info("called", { path: 'x node_id=node_2 "', "k v": "a=b", slash: "\\n", fine: "node_1" });
    expect(lines[0]).toMatch(/main: called path="x node_id=node_2 \\"" "k v"="a=b" slash="\\\\n" fine=node_1\n$/);
  });
});

test.each([
  ["one letter", "a".repeat(1_000_000)],
  ["schemes without an end", "a://".repeat(250_000)],
  ["beginnings of tokens", "-eyJ".repeat(250_000)],
  ["beginnings of tokens with dots", "eyJa.".repeat(200_000)],
  ["bearers", `${"bearer ".repeat(150_000)}`],
  ["a bearer and spaces", `bearer${" ".repeat(1_000_000)}`],
  ["payout addresses", `T${"1".repeat(33)} `.repeat(30_000)],
])("a text of a megabyte is redacted in no time: %s", (_what, text) => {
  const before = process.threadCpuUsage();
  redactText(text);
  expect(process.threadCpuUsage(before).user / 1_000).toBeLessThan(50);
});
