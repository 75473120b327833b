// What a machine tells of itself, in the contract's words and within its ranges.
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { HardwareInfoSchema, NodeMetricsSchema } from "../../gen/lucid/node/v1/node_service_pb.js";
import type { MachineDescription, MachineSample } from "../resources/collector.js";

export const sampleToWire = (sample: MachineSample): MessageInitShape<typeof NodeMetricsSchema> => ({
  cpuPercent: sample.cpuPercent,
  memoryUsedBytes: BigInt(Math.round(sample.memoryUsedBytes)),
  memoryTotalBytes: BigInt(Math.round(sample.memoryTotalBytes)),
  diskUsedBytes: BigInt(Math.round(sample.diskUsedBytes)),
  diskTotalBytes: BigInt(Math.round(sample.diskTotalBytes)),
  networkRxBytes: BigInt(Math.round(sample.networkRxBytes)),
  networkTxBytes: BigInt(Math.round(sample.networkTxBytes)),
});

// The contract's ranges: see HardwareInfo in node_service.proto.
const coresMax = 128;
const memoryBytesMin = 1_000_000_000;
const memoryBytesMax = 2 ** 40;
const storageBytesMin = 10_000_000_000;
const storageBytesMax = 100 * 2 ** 40;
const devicesMax = 64;
const macAddress = /^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$/;

/** Undefined for a machine that the contract has no place for: smaller than 1 GB, or without any network interface. */
export function descriptionToWire(
  machine: MachineDescription,
): MessageInitShape<typeof HardwareInfoSchema> | undefined {
  const { cpu, memory, gpu } = machine;
  if (memory.totalBytes < memoryBytesMin || machine.network.length === 0) return undefined;
  return {
    cpu: {
      cores: Math.min(Math.max(1, cpu.cores), coresMax),
      architecture: cpu.architecture.slice(0, 64),
      model: cpu.model.slice(0, 200),
      ...(cpu.frequencyMhz === undefined ? {} : { frequencyMhz: cpu.frequencyMhz }),
    },
    memory: { totalBytes: BigInt(Math.min(memory.totalBytes, memoryBytesMax)), type: memory.type.slice(0, 64) },
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
