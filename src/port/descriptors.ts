// How many files and connections the operating system allows this process.
import { readFileSync } from "node:fs";
import type { Log } from "../telemetry/log.js";

/**
 * Descriptors reserved for stores, logs, files, and the port of probes and metrics, which must answer even under the
 * worst load.
 */
const reserve = 128;
const reserveShare = 0.5;
/** Connections of the port of probes and metrics, when descriptors are scarce and when they are not. */
const probesScarce = 24;
const probesUsual = 1_000;

/** The soft limit of open files; undefined if there is none or it cannot be read (only Linux has a file for it). */
export function openFilesMax(limits: string = readLimits()): number | undefined {
  const [, soft] = /^Max open files\s+(\d+)/m.exec(limits) ?? [];
  return soft === undefined ? undefined : Number(soft);
}

function readLimits(): string {
  try {
    return readFileSync("/proc/self/limits", "utf8");
  } catch {
    // Not Linux: the limit is not known.
    return "";
  }
}

/** Connections that fit below the limit of open files, less the reserve. */
export function connectionsThatFit(wanted: number, filesMax: number | undefined): number {
  if (filesMax === undefined) return wanted;
  return Math.max(1, Math.min(wanted, filesMax - Math.min(reserve, Math.ceil(filesMax * reserveShare))));
}

/** Connections of the port of probes and metrics. They do not reduce those of the other port. */
export const probesThatFit = (filesMax: number | undefined = openFilesMax()): number =>
  filesMax !== undefined && filesMax < 16 * probesUsual ? probesScarce : probesUsual;

/** Connections for calls and probes, in addition to the streams. */
const beside = 5_000;

/**
 * The connections needed for this many streams, as far as the operating system allows; logs when it does not. One
 * address may have half of them at most.
 */
export function connectionLimits(streamsMax: number, perAddressMax: number, log: Log) {
  const filesMax = openFilesMax();
  const connectionsMax = connectionsThatFit(streamsMax + beside, filesMax);
  if (connectionsMax < streamsMax) {
    // Nodes may share connections, so a limit slightly too low does not deserve a warning.
    const tell = connectionsMax < streamsMax / 2 ? log.warn : log.info;
    tell("The limit of open files is below STREAMS_MAX: raise it (ulimit -n, LimitNOFILE) or lower STREAMS_MAX", {
      open_files_max: filesMax,
      connections_max: connectionsMax,
      streams_max: streamsMax,
    });
  }
  return { connectionsMax, connectionsPerAddressMax: Math.min(perAddressMax, Math.ceil(connectionsMax / 2)) };
}
