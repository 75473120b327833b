// Parses the machine's figures in Linux' /proc: memory, processors, network counters, mounted file systems. Pure.

/** Bytes; undefined if the kernel does not say. Used is total minus available: memory that programs cannot get. */
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

/** The processors that a process may run on, from /proc/self/status; undefined if it does not say. */
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

/** The sum over those processors (all if undefined), from /proc/stat; undefined if it lists none of them. */
export function readCpuTime(stat: string, allowed: readonly number[] | undefined): CpuTime | undefined {
  const counted = [...stat.matchAll(/^cpu(\d+) (.+)$/gm)].filter(
    ([, number]) => allowed === undefined || allowed.includes(Number(number)),
  );
  if (counted.length === 0) return undefined;
  let [busy, whole] = [0, 0];
  for (const [, , columns = ""] of counted) {
    // Guest time is already included in user and nice.
    const [user = 0, nice = 0, system = 0, idle = 0, waiting = 0, irq = 0, softirq = 0, steal = 0] = columns
      .trim()
      .split(/\s+/)
      .map(Number);
    busy += user + nice + system + irq + softirq + steal;
    whole += user + nice + system + irq + softirq + steal + idle + waiting;
  }
  return { busy, whole };
}

/** Percent between two readings; undefined if no time has passed between them, or the counters went back. */
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

/** From /proc/net/dev. */
export const readNetDev = (text: string): InterfaceCounters[] =>
  [...text.matchAll(/^\s*([^\s:]+(?::\d+)?):\s*(\d+(?:\s+\d+){8,})\s*$/gm)].map(([, name = "", columns = ""]) => {
    const counters = columns.split(/\s+/).map(Number);
    return { name, rxBytes: counters[0] ?? 0, txBytes: counters[8] ?? 0 };
  });

/** Interfaces that only connect parts of this machine, or carry traffic that another one counts. */
const inner =
  /^(lo|veth|docker|br-|br\d|virbr|vnet|vmnet|vboxnet|cni|flannel|cilium|lxc|lxd|cali|tunl|kube|nodelocaldns|podman|dummy|ifb|tun|tap|wg|sit|gre|ip6|ipip|vxlan|geneve|bond|team|ovs|teql|vti|nlmon)/;

/**
 * The interfaces that lead out of the machine, so that each byte counts once: those with a device or, if there is none
 * (in a container), all that are not known to be internal.
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

// Spaces and similar characters are written as octal numbers.
const unescaped = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** Lines of /proc/self/mountinfo (proc(5)) that contain `part`. Malformed lines are left out. */
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

/** Directories above an absolute path, from "/" down; none for "/" itself. */
const directoriesAbove = (path: string): string[] =>
  path === "/" ? [] : [...path.matchAll(/\//g)].map(({ index }) => (index === 0 ? "/" : path.slice(0, index)));

/** The most stacked mounts followed. The kernel's own nesting is far below it. */
const stepsMax = 100;

/**
 * Tells whether a mount's path leads to it, so that nothing is mounted over it or over a directory above it. A machine
 * may have thousands of mounts, so each is looked up by its path instead of compared with all others.
 */
function createVisibility(mounts: readonly Mount[]): (mount: Mount) => boolean {
  const byId = new Map(mounts.map((mount) => [mount.id, mount]));
  const pathsOn = new Map<string, Set<string>>();
  for (const { id, parent, path } of mounts) {
    // The very first mount is its own parent and covers nothing.
    if (id === parent) continue;
    const paths = pathsOn.get(parent);
    if (paths === undefined) pathsOn.set(parent, new Set([path]));
    else paths.add(path);
  }
  const known = new Map<string, boolean>();
  /**
   * Whether its path leads to the directory that it is mounted on. A mount on the same path has the covered mount as
   * its parent.
   */
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
/** A file or memory used as a disk already counts where it is stored. */
const posing = /^\/dev\/(loop|ram|zram)\d/;

/** A path at which a file system can be queried. Those of one group share their free space. */
export interface LocalFileSystem {
  readonly path: string;
  readonly group: string;
}

/**
 * The file systems on this machine's own disks, each once however often it is mounted: none of another machine, in
 * memory, or laid over others. If there is none (a container whose disk is not visible), the root's.
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

/** The sum in bytes of all file systems that answered; undefined if none did. */
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
