// The share of the machine that this process may use: its description and its current use, for the agent's reports and
// the service's health report. Linux is read from /proc and /sys, which answer at once. Everything else is read through
// systeminformation in helper processes, since it may hang. A figure that cannot be read is undefined, never zero.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { arch, availableParallelism } from "node:os";
import { join } from "node:path";
import { type Clock, systemClock } from "../clock.js";
import { type Controller, type GroupPath, groupPath, memoryOf, type ProcessorShare, processorOf } from "./cgroup.js";
import {
  busyPercent,
  type CpuTime,
  diskUse,
  externalInterfaces,
  type InterfaceCounters,
  localFileSystems,
  readAllowedCpus,
  readCpuTime,
  readMeminfo,
  readNetDev,
} from "./linux.js";
import { createLook, isSystemError, type Look } from "./look.js";
import type { Parts } from "./reader.js";

/** A used figure is never above its total, and is undefined exactly when its total is. */
export interface MachineSample {
  /** 0 to 100, over all processors that this process may use. */
  readonly cpuPercent: number | undefined;
  readonly memoryUsedBytes: number | undefined;
  readonly memoryTotalBytes: number | undefined;
  readonly diskUsedBytes: number | undefined;
  readonly diskTotalBytes: number | undefined;
  /** Since the machine started. */
  readonly networkRxBytes: number | undefined;
  readonly networkTxBytes: number | undefined;
}

export interface MachineDescription {
  readonly cpu: {
    readonly cores: number;
    readonly frequencyMhz: number | undefined;
    readonly architecture: string;
    readonly model: string;
  };
  readonly memory: { readonly totalBytes: number; readonly type: string } | undefined;
  readonly storage: readonly { readonly totalBytes: number; readonly type: string; readonly interface: string }[];
  readonly gpu: { readonly model: string; readonly memoryBytes: number } | undefined;
  readonly network: readonly {
    readonly interface: string;
    readonly speedMbps: number | undefined;
    readonly macAddress: string;
  }[];
}

export interface Collector {
  sample(): Promise<MachineSample>;
  describe(): Promise<MachineDescription>;
}

/** How long a disk may take to answer. The health report allows 3 s for the machine. */
const sampleLimitMs = 2_500;
/** How long a description may take: its commands search for hardware. */
const describeLimitMs = 10_000;
/** The shortest time over which a processor's use is meaningful: the kernel counts in steps of 10 ms. */
const cpuSpanMs = 200;

export interface CollectorOptions {
  readonly clock: Clock;
  /** The directory that holds proc/ and sys/; "/" when absent. */
  readonly root?: string;
  readonly platform?: NodeJS.Platform;
  /** Processors that this process may run on, as far as Node.js knows. */
  readonly processors?: number;
  readonly look?: Look;
  readonly describeLook?: Look;
}

export function createCollector(options: CollectorOptions): Collector {
  const { clock, platform = process.platform, processors = availableParallelism() } = options;
  const look = options.look ?? createLook({ clock, limitMs: sampleLimitMs });
  const describeLook = options.describeLook ?? createLook({ clock, limitMs: describeLimitMs });
  const linux = platform === "linux" ? linuxReader(options.root ?? "/", processors) : undefined;
  return {
    sample: linux === undefined ? () => foreignSample(look) : linuxSampler(linux, look, clock),
    describe: () => describe(linux, processors, look, describeLook),
  };
}

export const systemCollector: Collector = createCollector({ clock: systemClock });

type LinuxReader = ReturnType<typeof linuxReader>;

/** Reads /proc and /sys. They are in the kernel's memory, so no read waits for a device. */
function linuxReader(root: string, processors: number) {
  const read = (path: string): string | undefined => {
    try {
      return readFileSync(join(root, path), "utf8");
    } catch (error) {
      // Not every kernel and container has every file.
      if (!isSystemError(error)) throw error;
      return undefined;
    }
  };
  const readGroupFile = (directory: string, file: string) => read(`${directory}/${file}`);
  const groupOf = (controller: Controller): GroupPath | undefined =>
    groupPath(controller, read("proc/self/cgroup") ?? "", read("proc/self/mountinfo") ?? "");
  const withDevice = (names: readonly string[]): ReadonlySet<string> =>
    new Set(names.filter((name) => existsSync(join(root, "sys/class/net", name, "device"))));

  return {
    memory: () => {
      const whole = readMeminfo(read("proc/meminfo") ?? "");
      const group = groupOf("memory");
      const limited = whole && group && memoryOf(group, readGroupFile, whole.totalBytes);
      return limited ?? whole;
    },
    share: (): ProcessorShare | undefined => {
      const group = groupOf("cpu");
      return group && processorOf(group, readGroupFile, processors, groupOf("cpuacct"));
    },
    cpuTime: (): CpuTime | undefined =>
      readCpuTime(read("proc/stat") ?? "", readAllowedCpus(read("proc/self/status") ?? "")),
    interfaces: (): string[] => {
      try {
        const names = readdirSync(join(root, "sys/class/net"));
        return externalInterfaces(names, withDevice(names));
      } catch (error) {
        if (!isSystemError(error)) throw error;
        return [];
      }
    },
    counters: (): InterfaceCounters[] => {
      const counters = readNetDev(read("proc/net/dev") ?? "");
      const names = counters.map(({ name }) => name);
      const external = externalInterfaces(names, withDevice(names));
      return counters.filter(({ name }) => external.includes(name));
    },
    fileSystems: () => localFileSystems(read("proc/self/mountinfo") ?? ""),
  };
}

function linuxSampler(reader: LinuxReader, look: Look, clock: Clock): Collector["sample"] {
  let former: { readonly atMs: number; readonly time: CpuTime } | undefined;

  /** Relative to the most that the process may use: its quota if it has one, else the processors it may run on. */
  const readCpu = (): typeof former => {
    const atMs = clock.monotonicMs();
    const share = reader.share();
    if (share?.usedMs !== undefined) return { atMs, time: { busy: share.usedMs, whole: atMs * share.cores } };
    const time = reader.cpuTime();
    return time && { atMs, time };
  };
  const cpuPercent = async (): Promise<number | undefined> => {
    former ??= readCpu();
    if (former === undefined) return undefined;
    const earlier = former;
    const leftMs = earlier.atMs + cpuSpanMs - clock.monotonicMs();
    if (leftMs > 0) await clock.sleep(leftMs, new AbortController().signal);
    former = readCpu();
    return former && busyPercent(earlier.time, former.time);
  };
  const disk = async () => {
    const asked = reader.fileSystems();
    if (asked.length === 0) return undefined;
    const answers = await look("fileSystems", JSON.stringify(asked.map(({ path }) => path)));
    return answers && diskUse(asked, answers);
  };

  return async () => {
    const [cpu, disks] = await Promise.all([cpuPercent(), disk()]);
    const memory = reader.memory();
    const counters = reader.counters();
    return {
      cpuPercent: cpu,
      ...figures(memory, disks),
      networkRxBytes: counters.length === 0 ? undefined : sum(counters, ({ rxBytes }) => rxBytes),
      networkTxBytes: counters.length === 0 ? undefined : sum(counters, ({ txBytes }) => txBytes),
    };
  };
}

interface Use {
  readonly usedBytes: number;
  readonly totalBytes: number;
}

const figures = (memory: Use | undefined, disk: Use | undefined) => ({
  memoryUsedBytes: memory && Math.min(memory.usedBytes, memory.totalBytes),
  memoryTotalBytes: memory?.totalBytes,
  diskUsedBytes: disk && Math.min(disk.usedBytes, disk.totalBytes),
  diskTotalBytes: disk?.totalBytes,
});

const sum = <Item>(items: readonly Item[], value: (item: Item) => number | null | undefined): number =>
  items.reduce((total, item) => total + (value(item) ?? 0), 0);

const onlyLocal = ({ type, fs }: Parts["fsSize"][number]): boolean =>
  !/nfs|smbfs|cifs|afp|webdav|sshfs|tmpfs|devfs|autofs|overlay/i.test(type) && !fs.startsWith("//");

/** For systems other than Linux. */
async function foreignSample(look: Look): Promise<MachineSample> {
  const [load, memory, all, network] = await Promise.all([
    look("processorLoad"),
    look("memory"),
    look("fsSize"),
    look("networkStats"),
  ]);
  // Volumes of one container (APFS) share its size and free space.
  const local = [...new Map((all ?? []).filter(onlyLocal).map((disk) => [disk.fs, disk])).values()];
  const shared = [...new Map(local.map((disk) => [`${disk.size} ${disk.available}`, disk])).values()];
  const total = sum(shared, (disk) => disk.size);
  const cards = network?.filter(({ iface }) => externalInterfaces([iface], new Set()).length > 0) ?? [];
  return {
    cpuPercent: load && Math.min(100, Math.max(0, load.currentLoad)),
    ...figures(
      memory && { usedBytes: memory.active, totalBytes: memory.total },
      total > 0 ? { usedBytes: total - sum(shared, (disk) => disk.available), totalBytes: total } : undefined,
    ),
    networkRxBytes: cards.length === 0 ? undefined : sum(cards, (card) => card.rx_bytes),
    networkTxBytes: cards.length === 0 ? undefined : sum(cards, (card) => card.tx_bytes),
  };
}

/** Reads each part separately, so that a hanging one does not affect the others. */
async function describe(
  linux: LinuxReader | undefined,
  processors: number,
  look: Look,
  describeLook: Look,
): Promise<MachineDescription> {
  const [cpu, memory, layout, disks, graphics, cards] = await Promise.all([
    describeLook("processor"),
    linux === undefined
      ? look("memory").then((found) => found && { totalBytes: found.total })
      : Promise.resolve(linux.memory()),
    describeLook("memoryLayout"),
    describeLook("disks"),
    describeLook("graphics"),
    describeLook("networkInterfaces"),
  ]);
  const gpu = graphics?.controllers.find((controller) => (controller.vram ?? 0) > 0);
  const interfaces = cards === undefined ? [] : Array.isArray(cards) ? cards : [cards];
  const names =
    linux === undefined ? interfaces.filter((card) => !card.internal).map(({ iface }) => iface) : linux.interfaces();
  const external = interfaces.filter(({ iface }) => names.includes(iface));
  return {
    cpu: {
      cores: Math.min(processors, Math.max(1, Math.floor(linux?.share()?.cores ?? processors))),
      frequencyMhz: cpu !== undefined && cpu.speed > 0 ? Math.round(cpu.speed * 1000) : undefined,
      architecture: arch(),
      model: cpu === undefined ? "" : `${cpu.manufacturer} ${cpu.brand}`.trim(),
    },
    memory: memory && { totalBytes: memory.totalBytes, type: layout?.[0]?.type ?? "" },
    storage: (disks ?? []).map((disk) => ({ totalBytes: disk.size, type: disk.type, interface: disk.interfaceType })),
    gpu: gpu && { model: gpu.model, memoryBytes: (gpu.vram ?? 0) * 1024 * 1024 },
    network:
      cards === undefined && linux !== undefined
        ? names.map((name) => ({ interface: name, speedMbps: undefined, macAddress: "" }))
        : (external.length > 0 ? external : interfaces).map((card) => ({
            interface: card.iface,
            speedMbps: card.speed !== null && card.speed > 0 ? Math.round(card.speed) : undefined,
            macAddress: card.mac,
          })),
  };
}
