// A log whose lines a test can read.
import { createLogger, type Log } from "../../src/telemetry/log.js";

export function createLog(): { log: Log; lines: Readonly<Record<string, unknown>>[] } {
  const lines: Readonly<Record<string, unknown>>[] = [];
  const write = (line: string) => void lines.push(JSON.parse(line));
  return { log: createLogger({ level: "DEBUG", format: "json", service: "test", version: "1.2.3", write }), lines };
}
