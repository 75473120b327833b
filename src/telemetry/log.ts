// Log lines to stdout: JSON for machines, `standard` for people. Secrets are taken out here, whoever logs them.
import { pino } from "pino";
import { redact, redactText } from "./redact.js";

export type LogLevel = "DEBUG" | "INFO" | "WARNING" | "ERROR";
export type LogFields = Readonly<Record<string, unknown>>;

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  /** An Error given as the field `error` is written as `exception`, with its stack and causes. */
  error(message: string, fields?: LogFields): void;
  /** Whether lines of this level are written; asks before costly fields are gathered. */
  enabled(level: LogLevel): boolean;
  /** The same log for one part of the service. */
  module(name: string): Log;
}

export interface LogOptions {
  readonly level: LogLevel;
  readonly format: "json" | "standard";
  readonly service: string;
  readonly version: string;
  /** Takes each finished line; stdout when absent. */
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
/** Keys of the line itself; context of the same name gets an underscore, for JSON with a key twice is ambiguous. */
const ownKeys = new Set(["timestamp", "level", "logger", "message", "module", "service", "version"]);

export function createLogger(options: LogOptions): Log {
  const sink = pino.destination({ fd: 1, sync: true });
  const write = options.write ?? ((line: string) => void sink.write(line));
  const root = pino(
    {
      level: pinoLevel[options.level],
      base: { logger: "node", service: options.service, version: options.version },
      messageKey: "message",
      timestamp: () => `,"timestamp":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: levelName[label] ?? "INFO" }) },
    },
    { write: options.format === "json" ? write : (line) => write(standardLine(line)) },
  );
  return wrap(root, "main");
}

/** For tests and for parts that are built without a log. */
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

/** `2026-01-01T00:00:00.000Z INFO main: message key=value`, and an exception on lines of its own. */
function standardLine(json: string): string {
  const { timestamp, level, module, message, exception, logger, service, version, ...rest } = JSON.parse(json);
  void [logger, service, version];
  const fields = Object.entries(rest).map(
    ([key, value]) => ` ${key}=${typeof value === "string" ? value : JSON.stringify(value)}`,
  );
  const trace = exception === undefined ? "" : `\n${exception}`;
  return `${timestamp} ${level} ${module}: ${message}${fields.join("")}${trace}\n`;
}
