// Describes a machine in the contract's terms and ranges.
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { HardwareInfoSchema, NodeMetricsSchema } from "../../gen/lucid/node/v1/node_service_pb.js";
import type { MachineDescription, MachineSample } from "../machine/machine.js";
import { present } from "../present.js";

const wholeBytes = (bytes: number | undefined): bigint => BigInt(Math.max(0, Math.round(bytes ?? 0)));

/**
 * Used and total of one resource. If either is unknown both are 0, which the contract calls unknown; used is never
 * above total.
 */
function useToWire(used: number | undefined, total: number | undefined): { used: bigint; total: bigint } {
  const totalBytes = used === undefined ? 0n : wholeBytes(total);
  const usedBytes = wholeBytes(used);
  return { used: usedBytes < totalBytes ? usedBytes : totalBytes, total: totalBytes };
}

/** Undefined if the processor's use could not be read: the contract cannot omit that figure alone. */
export function sampleToWire(sample: MachineSample): MessageInitShape<typeof NodeMetricsSchema> | undefined {
  if (sample.cpuPercent === undefined) return undefined;
  const memory = useToWire(sample.memoryUsedBytes, sample.memoryTotalBytes);
  const disk = useToWire(sample.diskUsedBytes, sample.diskTotalBytes);
  return {
    cpuPercent: Math.min(100, Math.max(0, sample.cpuPercent)),
    memoryUsedBytes: memory.used,
    memoryTotalBytes: memory.total,
    diskUsedBytes: disk.used,
    diskTotalBytes: disk.total,
    networkRxBytes: wholeBytes(sample.networkRxBytes),
    networkTxBytes: wholeBytes(sample.networkTxBytes),
  };
}

// The contract's ranges: see HardwareInfo in node_service.proto.
const coresMax = 128;
const memoryBytesMin = 1_000_000_000;
const memoryBytesMax = 2 ** 40;
const storageBytesMin = 10_000_000_000;
const storageBytesMax = 100 * 2 ** 40;
const devicesMax = 64;
const macAddress = /^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$/;

/** Undefined if the contract cannot express it: less than 1 GB of memory, unknown memory, or no network interface. */
export function descriptionToWire(
  machine: MachineDescription,
): MessageInitShape<typeof HardwareInfoSchema> | undefined {
  const { cpu, memory, gpu } = machine;
  if (memory === undefined || memory.totalBytes < memoryBytesMin || machine.network.length === 0) return undefined;
  return {
    cpu: {
      cores: Math.min(Math.max(1, cpu.cores), coresMax),
      architecture: cpu.architecture.slice(0, 64),
      model: cpu.model.slice(0, 200),
      ...present({ frequencyMhz: cpu.frequencyMhz }),
    },
    memory: {
      totalBytes: BigInt(Math.min(Math.round(memory.totalBytes), memoryBytesMax)),
      type: memory.type.slice(0, 64),
    },
    storage: machine.storage
      .filter(({ totalBytes }) => totalBytes >= storageBytesMin && totalBytes <= storageBytesMax)
      .slice(0, devicesMax)
      .map((disk) => ({
        totalBytes: BigInt(Math.round(disk.totalBytes)),
        type: disk.type.slice(0, 64),
        interface: disk.interface.slice(0, 64),
      })),
    ...(gpu === undefined ? {} : { gpu: { model: gpu.model.slice(0, 200), memoryBytes: BigInt(gpu.memoryBytes) } }),
    network: machine.network.slice(0, devicesMax).map((card) => ({
      interface: card.interface.slice(0, 64),
      ...(card.speedMbps === undefined ? {} : { speedMbps: Math.min(card.speedMbps, 1_000_000) }),
      macAddress: macAddress.test(card.macAddress) ? card.macAddress : "",
    })),
  };
}
