// What Linux says of the machine in /proc: memory, processors, network counters, mounted file systems. Pure.

/** Bytes; undefined where the kernel does not say. Used is what programs cannot be given: total less available. */
export function readMeminfo(text: string): { readonly usedBytes: number; readonly totalBytes: number } | undefined {
  const bytesOf = (name: string): number | undefined => {
    const found = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(text)?.[1];
    return found === undefined ? undefined : Number(found) * 1024;
  };
  const total = bytesOf("MemTotal");
  // Kernels before 3.14 do not know MemAvailable.
  const available = bytesOf("MemAvailable") ?? sum([bytesOf("MemFree"), bytesOf("Buffers"), bytesOf("Cached")]);
  if (total === undefined || total === 0 || available === undefined) return undefined;
  return { usedBytes: Math.max(0, total - available), totalBytes: total };
}

const sum = (values: readonly (number | undefined)[]): number | undefined =>
  values.includes(undefined) ? undefined : values.reduce<number>((all, value) => all + (value ?? 0), 0);

/** "0-2,5" as 0, 1, 2, 5. */
export const readCpuList = (text: string): number[] =>
  text
    .trim()
    .split(",")
    .filter((range) => /^\d+(-\d+)?$/.test(range))
    .flatMap((range) => {
      const [first = 0, last = first] = range.split("-").map(Number);
      return Array.from({ length: Math.max(0, last - first + 1) }, (_, place) => first + place);
    });

/** The processors that a process may run on, by /proc/self/status; undefined where it does not say. */
export function readAllowedCpus(status: string): number[] | undefined {
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1];
  const allowed = list === undefined ? [] : readCpuList(list);
  return allowed.length === 0 ? undefined : allowed;
}

/** Time of processors since the machine started, in one unit. */
export interface CpuTime {
  readonly busy: number;
  readonly whole: number;
}

/** Of those processors together (all where undefined), by /proc/stat; undefined where it tells of none of them. */
export function readCpuTime(stat: string, allowed: readonly number[] | undefined): CpuTime | undefined {
  const counted = [...stat.matchAll(/^cpu(\d+) (.+)$/gm)].filter(
    ([, number]) => allowed === undefined || allowed.includes(Number(number)),
  );
  if (counted.length === 0) return undefined;
  let [busy, whole] = [0, 0];
  for (const [, , columns = ""] of counted) {
    // Time of guests is in user and nice already.
    const [user = 0, nice = 0, system = 0, idle = 0, waiting = 0, irq = 0, softirq = 0, steal = 0] = columns
      .trim()
      .split(/\s+/)
      .map(Number);
    busy += user + nice + system + irq + softirq + steal;
    whole += user + nice + system + irq + softirq + steal + idle + waiting;
  }
  return { busy, whole };
}

/** Percent from one reading to the next; undefined where no time lies between them, or the counters went back. */
export function busyPercent(former: CpuTime, latter: CpuTime): number | undefined {
  const [busy, whole] = [latter.busy - former.busy, latter.whole - former.whole];
  if (!(whole > 0) || busy < 0) return undefined;
  return Math.min(100, (busy / whole) * 100);
}

export interface InterfaceCounters {
  readonly name: string;
  /** Bytes since the machine started. */
  readonly rxBytes: number;
  readonly txBytes: number;
}

/** By /proc/net/dev. */
export const readNetDev = (text: string): InterfaceCounters[] =>
  [...text.matchAll(/^\s*([^\s:]+(?::\d+)?):\s*(\d+(?:\s+\d+){8,})\s*$/gm)].map(([, name = "", columns = ""]) => {
    const counters = columns.split(/\s+/).map(Number);
    return { name, rxBytes: counters[0] ?? 0, txBytes: counters[8] ?? 0 };
  });

/** Interfaces that connect parts of this machine only, or carry what another one has counted already. */
const inner =
  /^(lo|veth|docker|br-|br\d|virbr|vnet|vmnet|vboxnet|cni|flannel|cilium|lxc|lxd|cali|tunl|kube|nodelocaldns|podman|dummy|ifb|tun|tap|wg|sit|gre|ip6|ipip|vxlan|geneve|bond|team|ovs|teql|vti|nlmon)/;

/**
 * The interfaces by which the machine reaches others, each byte counted once: those with a device behind them, and where
 * there is none (in a container) all that are not known to be inner.
 */
export function externalInterfaces(names: readonly string[], withDevice: ReadonlySet<string>): string[] {
  const physical = names.filter((name) => withDevice.has(name));
  return physical.length > 0 ? physical : names.filter((name) => !inner.test(name) && !/[.@:]/.test(name));
}

interface Mount {
  readonly id: string;
  readonly parent: string;
  /** major:minor of the file system. */
  readonly device: string;
  readonly root: string;
  readonly path: string;
  readonly type: string;
  readonly source: string;
}

// Spaces and the like are written as octal numbers.
const unescaped = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** Lines of /proc/self/mountinfo (proc(5)) that have `part` in them; a line that is not of its form is left out. */
export const readMounts = (mountinfo: string, part = ""): Mount[] =>
  mountinfo.split("\n").flatMap((line) => {
    if (!line.includes(part)) return [];
    const [left = "", right = ""] = line.split(" - ");
    const [id, parent, device, root, path] = left.split(" ");
    const [type, source] = right.split(" ");
    if (id === undefined || parent === undefined || device === undefined || root === undefined) return [];
    if (path === undefined || type === undefined || source === undefined) return [];
    return [{ id, parent, device, root: unescaped(root), path: unescaped(path), type, source: unescaped(source) }];
  });

/** Directories above an absolute path, from "/" down; none above "/" itself. */
const directoriesAbove = (path: string): string[] =>
  path === "/" ? [] : [...path.matchAll(/\//g)].map(({ index }) => (index === 0 ? "/" : path.slice(0, index)));

/** How many mounts upon mounts are followed; the kernel's own nesting is far below it. */
const stepsMax = 100;

/**
 * Tells whether a mount's path leads to it: nothing is mounted over it, nor over a directory above it. A machine may have
 * thousands of mounts, so each is looked up by where it is mounted and none is compared with all others.
 */
function createVisibility(mounts: readonly Mount[]): (mount: Mount) => boolean {
  const byId = new Map(mounts.map((mount) => [mount.id, mount]));
  const pathsOn = new Map<string, Set<string>>();
  for (const { id, parent, path } of mounts) {
    // The first mount of all is its own parent and covers nothing.
    if (id === parent) continue;
    const paths = pathsOn.get(parent);
    if (paths === undefined) pathsOn.set(parent, new Set([path]));
    else paths.add(path);
  }
  const known = new Map<string, boolean>();
  /** Whether its path leads to the directory that it is mounted on. A mount of the same path stands on its parent. */
  const isReached = ({ id, parent, path }: Mount, steps: number): boolean => {
    const former = known.get(id);
    if (former !== undefined) return former;
    const siblings = pathsOn.get(parent);
    const hidden = siblings !== undefined && directoriesAbove(path).some((directory) => siblings.has(directory));
    const below = parent === id || steps === 0 ? undefined : byId.get(parent);
    const reached = !hidden && (below === undefined || isReached(below, steps - 1));
    known.set(id, reached);
    return reached;
  };
  return (mount) => pathsOn.get(mount.id)?.has(mount.path) !== true && isReached(mount, stepsMax);
}

const onDisk = new Set([
  ...["ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs", "zfs", "f2fs", "jfs", "reiserfs", "nilfs2", "ufs"],
  ...["vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "hfs", "hfsplus", "apfs"],
]);
/** A file or memory that poses as a disk is counted where it lies. */
const posing = /^\/dev\/(loop|ram|zram)\d/;

/** Where a file system can be asked; those of one group share their free space. */
export interface LocalFileSystem {
  readonly path: string;
  readonly group: string;
}

/**
 * The file systems on this machine's own disks, each once however often it is mounted: none of another machine, in
 * memory, or laid over others. Where there is none at all (a container whose disk does not show), the root's.
 */
export function localFileSystems(mountinfo: string): LocalFileSystem[] {
  const mounts = readMounts(mountinfo);
  const isVisible = createVisibility(mounts);
  const found = new Map<string, LocalFileSystem>();
  for (const mount of mounts) {
    const { device, type, source, path } = mount;
    if (!onDisk.has(type) || posing.test(source) || !isVisible(mount)) continue;
    const shared = type === "btrfs" || type === "bcachefs" || type === "zfs";
    const key = shared ? `${type} ${source}` : device;
    const group = type === "zfs" ? `zfs ${source.split("/")[0]}` : key;
    const known = found.get(key);
    if (known === undefined || path.length < known.path.length) found.set(key, { path, group });
  }
  if (found.size > 0) return [...found.values()];
  const overlaid = mounts.some((mount) => mount.path === "/" && mount.type === "overlay" && isVisible(mount));
  return overlaid ? [{ path: "/", group: "/" }] : [];
}

/** Bytes of all that answered together; undefined where none did. */
export function diskUse(
  asked: readonly LocalFileSystem[],
  answers: readonly { readonly path: string; readonly totalBytes: number; readonly freeBytes: number }[],
): { readonly usedBytes: number; readonly totalBytes: number } | undefined {
  const answerOf = new Map(answers.map((answer) => [answer.path, answer]));
  const freeOf = new Map<string, number>();
  let usedBytes = 0;
  for (const { path, group } of asked) {
    const { totalBytes, freeBytes } = answerOf.get(path) ?? { totalBytes: 0, freeBytes: 0 };
    usedBytes += Math.max(0, totalBytes - freeBytes);
    freeOf.set(group, Math.max(freeOf.get(group) ?? 0, freeBytes));
  }
  const totalBytes = usedBytes + [...freeOf.values()].reduce((all, free) => all + free, 0);
  return totalBytes > 0 ? { usedBytes, totalBytes } : undefined;
}
