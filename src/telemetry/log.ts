// Log lines on stdout: JSON for machines, `standard` for people. Secrets are removed here, whichever part logs them.
import { pino } from "pino";
import { redact, redactText } from "./redact.js";
import { standardSink } from "./sink.js";
import { visible } from "./visible.js";

export type LogLevel = "DEBUG" | "INFO" | "WARNING" | "ERROR";
export type LogFields = Readonly<Record<string, unknown>>;

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  /** An Error in the field `error` is written as `exception`, with its stack and causes. */
  error(message: string, fields?: LogFields): void;
  /** Whether lines of this level are written. Check it before gathering costly fields. */
  enabled(level: LogLevel): boolean;
  /** The same log with the name of one part of the service. */
  module(name: string): Log;
}

export interface LogOptions {
  readonly level: LogLevel;
  readonly format: "json" | "standard";
  readonly service: string;
  readonly version: string;
  /** Receives each finished line, and must not wait. Standard output when absent. */
  readonly write?: (line: string) => void;
}

const pinoLevel = { DEBUG: "debug", INFO: "info", WARNING: "warn", ERROR: "error" } as const;
const levelName: Readonly<Record<string, LogLevel>> = {
  trace: "DEBUG",
  debug: "DEBUG",
  info: "INFO",
  warn: "WARNING",
  error: "ERROR",
  fatal: "ERROR",
};
/**
 * The line's own keys. A context field with such a name gets an underscore, since a duplicate key in JSON is ambiguous.
 */
const ownKeys = new Set(["timestamp", "level", "logger", "message", "module", "service", "version"]);

export function createLogger(options: LogOptions): Log {
  const sink = options.write === undefined ? standardSink(1) : undefined;
  const write = options.write ?? ((line: string) => sink?.write(line));
  const root = pino(
    {
      level: pinoLevel[options.level],
      base: { logger: "node", service: options.service, version: options.version },
      messageKey: "message",
      timestamp: () => `,"timestamp":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: levelName[label] ?? "INFO" }) },
    },
    { write: (line) => write(options.format === "json" ? jsonLine(line) : standardLine(line)) },
  );
  const log = wrap(root, "main");
  sink?.onLoss((lines) => log.warn("Log lines were lost: they could not be written in time", { lines }));
  return log;
}

/** For tests and for parts built without a log. */
export const silentLog: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  enabled: () => false,
  module: () => silentLog,
};

function wrap(root: pino.Logger, module: string): Log {
  const at =
    (level: "debug" | "info" | "warn" | "error") =>
    (message: string, fields: LogFields = {}) => {
      if (root.isLevelEnabled(level)) root[level]({ module, ...context(fields) }, redactText(message));
    };
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    enabled: (level) => root.isLevelEnabled(pinoLevel[level]),
    module: (name) => wrap(root, name),
  };
}

function context(fields: LogFields): Record<string, unknown> {
  const safe = redact(fields) as Record<string, unknown>;
  const entries = Object.entries(safe).map(([key, value]): [string, unknown] => {
    if (key === "error" && fields[key] instanceof Error) return ["exception", value];
    return [ownKeys.has(key) ? `${key}_` : key, value];
  });
  return Object.fromEntries(entries);
}

/** Escapes characters that pino's JSON leaves unchanged and that affect a terminal or a line reader. */
const jsonLine = (json: string): string => `${visible(json.trimEnd())}\n`;

/** `2026-01-01T00:00:00.000Z INFO main: message key=value`; an exception follows indented, on its own lines. */
function standardLine(json: string): string {
  const { timestamp, level, module, message, exception, logger, service, version, ...rest } = JSON.parse(json);
  void [logger, service, version];
  const fields = Object.entries(rest).map(([key, value]) => ` ${word(key)}=${wordOf(value)}`);
  // The exception's lines are indented, so that none of them looks like the beginning of a log line, whatever the error
  // says.
  const trace = exception === undefined ? "" : `\n${String(exception).split("\n").map(setIn).join("\n")}`;
  return `${timestamp} ${level} ${visible(module)}: ${visible(message)}${fields.join("")}${trace}\n`;
}

const setIn = (line: string): string => `    ${visible(line)}`;
const wordOf = (value: unknown): string => (typeof value === "string" ? word(value) : visible(JSON.stringify(value)));

/** Unchanged if it is one word, else quoted, so that a value cannot look like further fields. */
const word = (text: string): string => (/^[^\s"=\\]+$/.test(text) ? visible(text) : visible(JSON.stringify(text)));
