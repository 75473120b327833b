// What the machine is and how it is doing, read through systeminformation: for the agent that reports it, and for the
// service's own health report.
import si from "systeminformation";

export interface MachineSample {
  /** 0 to 100 over all cores. */
  readonly cpuPercent: number;
  readonly memoryUsedBytes: number;
  readonly memoryTotalBytes: number;
  readonly diskUsedBytes: number;
  readonly diskTotalBytes: number;
  /** Since the machine started. */
  readonly networkRxBytes: number;
  readonly networkTxBytes: number;
}

export interface MachineDescription {
  readonly cpu: {
    readonly cores: number;
    readonly frequencyMhz: number | undefined;
    readonly architecture: string;
    readonly model: string;
  };
  readonly memory: { readonly totalBytes: number; readonly type: string };
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

const sum = <Item>(items: readonly Item[], value: (item: Item) => number | null | undefined): number =>
  items.reduce((total, item) => total + (value(item) ?? 0), 0);

export const systemCollector: Collector = {
  sample: async () => {
    const [load, memory, disks, network] = await Promise.all([
      si.currentLoad(),
      si.mem(),
      si.fsSize(),
      si.networkStats("*"),
    ]);
    // One filesystem may be mounted in several places; a device counts once.
    const devices = [...new Map(disks.map((disk) => [disk.fs, disk])).values()];
    return {
      cpuPercent: Math.min(100, Math.max(0, load.currentLoad)),
      memoryUsedBytes: memory.active,
      memoryTotalBytes: memory.total,
      diskUsedBytes: sum(devices, (disk) => disk.used),
      diskTotalBytes: sum(devices, (disk) => disk.size),
      networkRxBytes: sum(network, (card) => card.rx_bytes),
      networkTxBytes: sum(network, (card) => card.tx_bytes),
    };
  },

  describe: async () => {
    const [cpu, memory, layout, disks, graphics, cards, system] = await Promise.all([
      si.cpu(),
      si.mem(),
      si.memLayout(),
      si.diskLayout(),
      si.graphics(),
      si.networkInterfaces(),
      si.osInfo(),
    ]);
    const gpu = graphics.controllers.find((controller) => (controller.vram ?? 0) > 0);
    const interfaces = Array.isArray(cards) ? cards : [cards];
    const external = interfaces.filter((card) => !card.internal);
    return {
      cpu: {
        cores: cpu.cores,
        frequencyMhz: cpu.speed > 0 ? Math.round(cpu.speed * 1000) : undefined,
        architecture: system.arch,
        model: `${cpu.manufacturer} ${cpu.brand}`.trim(),
      },
      memory: { totalBytes: memory.total, type: layout[0]?.type ?? "" },
      storage: disks.map((disk) => ({ totalBytes: disk.size, type: disk.type, interface: disk.interfaceType })),
      gpu: gpu && { model: gpu.model, memoryBytes: (gpu.vram ?? 0) * 1024 * 1024 },
      network: (external.length > 0 ? external : interfaces).map((card) => ({
        interface: card.iface,
        speedMbps: card.speed !== null && card.speed > 0 ? Math.round(card.speed) : undefined,
        macAddress: card.mac,
      })),
    };
  },
};
