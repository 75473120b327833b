// The share of the machine that a process may use, as limited by control groups (versions 1 and 2). Pure.
// Any level above the process may have a limit. The smallest one applies, and its group counts the use.
import { readMounts } from "./linux.js";

/** Directories of one controller, from the process's own group up to the highest visible one. */
export interface GroupPath {
  readonly version: 1 | 2;
  readonly directories: readonly string[];
}

export type Controller = "memory" | "cpu" | "cpuacct";

/** From /proc/self/cgroup and /proc/self/mountinfo; undefined if the controller is not mounted. */
export function groupPath(controller: Controller, cgroup: string, mountinfo: string): GroupPath | undefined {
  const lines = cgroup.split("\n").flatMap((line) => {
    const [hierarchy, controllers = "", ...rest] = line.split(":");
    return hierarchy === undefined || rest.length === 0 ? [] : [{ hierarchy, controllers, path: rest.join(":") }];
  });
  // Only these lines are parsed, since a machine may have thousands of mounts.
  const mounts = readMounts(mountinfo, " - cgroup");
  const first = lines.find(({ controllers }) => controllers.split(",").includes(controller));
  if (first !== undefined) {
    const mount = mounts.find(
      ({ type, path }) => type === "cgroup" && (path.split("/").at(-1) ?? "").split(",").includes(controller),
    );
    if (mount !== undefined) return { version: 1, directories: upwards(first.path, mount) };
  }
  const unified = lines.find(({ hierarchy, controllers }) => hierarchy === "0" && controllers === "");
  const mount = mounts.find(({ type }) => type === "cgroup2");
  if (unified === undefined || mount === undefined) return undefined;
  return { version: 2, directories: upwards(unified.path, mount) };
}

/** A container may see its own group as the root of the mount, under its name on the host or under "/". */
function upwards(path: string, { root, path: mountedAt }: { readonly root: string; readonly path: string }): string[] {
  const inside = root === "/" ? path : path === root || path.startsWith(`${root}/`) ? path.slice(root.length) : "";
  const names = inside.includes("..") ? [] : inside.split("/").filter((name) => name !== "");
  return Array.from({ length: names.length + 1 }, (_, cut) =>
    [mountedAt, ...names.slice(0, names.length - cut)].join("/"),
  );
}

/** Reads a file of a group; undefined if it does not exist. */
export type ReadGroupFile = (directory: string, file: string) => string | undefined;

const memoryFiles = {
  1: ["memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"],
  2: ["memory.max", "memory.current", "memory.stat"],
} as const;

/** Bytes under the smallest limit below the machine's memory; undefined if there is none, or it cannot be read. */
export function memoryOf(
  { version, directories }: GroupPath,
  read: ReadGroupFile,
  machineBytes: number,
): { readonly usedBytes: number; readonly totalBytes: number } | undefined {
  const [limitFile, usageFile, statFile] = memoryFiles[version];
  const narrowest = least(
    directories.map((directory) => ({ directory, limit: wholeOf(read(directory, limitFile)) })),
    machineBytes,
  );
  if (narrowest === undefined) return undefined;
  const usage = wholeOf(read(narrowest.directory, usageFile));
  if (usage === undefined) return undefined;
  // The kernel reclaims long-unused file pages first, so they do not count as used.
  const name = version === 1 ? "total_inactive_file" : "inactive_file";
  const stat = read(narrowest.directory, statFile) ?? "";
  const inactive = Number(new RegExp(`^${name} (\\d+)$`, "m").exec(stat)?.[1] ?? 0);
  const totalBytes = narrowest.limit;
  return { usedBytes: Math.min(totalBytes, Math.max(0, usage - inactive)), totalBytes };
}

/** Processor time under a limit. */
export interface ProcessorShare {
  /** Processors' worth of time, such as 0.5. */
  readonly cores: number;
  /** Used so far, in milliseconds of one processor; undefined if unknown. */
  readonly usedMs: number | undefined;
}

/**
 * The smallest limit below that many processors; undefined if there is none. `accounting` is the group of the
 * accounting controller of version 1, if it is mounted separately.
 */
export function processorOf(
  { version, directories }: GroupPath,
  read: ReadGroupFile,
  processors: number,
  accounting?: GroupPath,
): ProcessorShare | undefined {
  const quotaOf = (directory: string): number | undefined => {
    const [quota, period] =
      version === 2
        ? (read(directory, "cpu.max") ?? "").trim().split(" ")
        : [read(directory, "cpu.cfs_quota_us")?.trim(), read(directory, "cpu.cfs_period_us")?.trim()];
    const [quotaUs, periodUs] = [wholeOf(quota), wholeOf(period)];
    return quotaUs === undefined || periodUs === undefined || periodUs === 0 ? undefined : quotaUs / periodUs;
  };
  const narrowest = least(
    directories.map((directory) => ({ directory, limit: quotaOf(directory) })),
    processors,
  );
  if (narrowest === undefined) return undefined;
  const { directory, limit: cores } = narrowest;
  if (version === 2) return { cores, usedMs: usedMsOf2(read(directory, "cpu.stat")) };
  // If mounted separately, it describes the limit's group only if the process is at the same depth in both.
  const apart =
    accounting?.directories.length === directories.length
      ? accounting.directories[directories.indexOf(directory)]
      : undefined;
  return { cores, usedMs: usedMsOf1(directory, read) ?? (apart === undefined ? undefined : usedMsOf1(apart, read)) };
}

const usedMsOf2 = (stat: string | undefined): number | undefined => {
  const microseconds = /^usage_usec (\d+)$/m.exec(stat ?? "")?.[1];
  return microseconds === undefined ? undefined : Number(microseconds) / 1000;
};

const usedMsOf1 = (directory: string, read: ReadGroupFile): number | undefined => {
  const nanoseconds = wholeOf(read(directory, "cpuacct.usage"));
  return nanoseconds === undefined ? undefined : nanoseconds / 1e6;
};

/** Undefined for "max", -1 and any other text that means no limit. */
const wholeOf = (text: string | undefined): number | undefined =>
  text !== undefined && /^\d+$/.test(text.trim()) ? Number(text.trim()) : undefined;

function least(
  found: readonly { readonly directory: string; readonly limit: number | undefined }[],
  below: number,
): { readonly directory: string; readonly limit: number } | undefined {
  let narrowest: { directory: string; limit: number } | undefined;
  for (const { directory, limit } of found) {
    if (limit === undefined || limit <= 0 || limit >= (narrowest?.limit ?? below)) continue;
    narrowest = { directory, limit };
  }
  return narrowest;
}
