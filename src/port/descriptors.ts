// How many files and connections the operating system lets this process hold.
import { readFileSync } from "node:fs";
import type { Log } from "../telemetry/log.js";

/** Kept free of connections: stores, logs, files, and the port of probes and metrics, which must answer at the worst time. */
const reserve = 128;
const reserveShare = 0.5;
/** Connections to the port of probes and metrics, where files are scarce and where they are not. */
const probesScarce = 24;
const probesUsual = 1_000;

/** The soft limit of open files; undefined where it cannot be read (only Linux says it in a file) or there is none. */
export function openFilesMax(limits: string = readLimits()): number | undefined {
  const [, soft] = /^Max open files\s+(\d+)/m.exec(limits) ?? [];
  return soft === undefined ? undefined : Number(soft);
}

function readLimits(): string {
  try {
    return readFileSync("/proc/self/limits", "utf8");
  } catch {
    // Another system: it is not known, and nothing is concluded from it.
    return "";
  }
}

/** Connections that fit below the limit of open files, leaving a reserve. */
export function connectionsThatFit(wanted: number, filesMax: number | undefined): number {
  if (filesMax === undefined) return wanted;
  return Math.max(1, Math.min(wanted, filesMax - Math.min(reserve, Math.ceil(filesMax * reserveShare))));
}

/** Connections that the port of probes and metrics may hold; it takes none away from the other port. */
export const probesThatFit = (filesMax: number | undefined = openFilesMax()): number =>
  filesMax !== undefined && filesMax < 16 * probesUsual ? probesScarce : probesUsual;

/** Calls and probes beside the streams. */
const beside = 5_000;

/**
 * Connections for so many streams, as far as the operating system lets us; says so where it does not. One address may have
 * half of them at most.
 */
export function connectionLimits(streamsMax: number, perAddressMax: number, log: Log) {
  const filesMax = openFilesMax();
  const connectionsMax = connectionsThatFit(streamsMax + beside, filesMax);
  if (connectionsMax < streamsMax) {
    // Nodes may share connections, so that a limit just below is no reason to wake anybody.
    const tell = connectionsMax < streamsMax / 2 ? log.warn : log.info;
    tell("The limit of open files is below STREAMS_MAX: raise it (ulimit -n, LimitNOFILE) or lower STREAMS_MAX", {
      open_files_max: filesMax,
      connections_max: connectionsMax,
      streams_max: streamsMax,
    });
  }
  return { connectionsMax, connectionsPerAddressMax: Math.min(perAddressMax, Math.ceil(connectionsMax / 2)) };
}
