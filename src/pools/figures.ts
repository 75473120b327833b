// The combined state and use of a pool's nodes. Pure.
import type { ConnectivityState, NodeStatus } from "../nodes/node.js";

/** The last sample of a node; sizes in bytes. */
export interface LastSample {
  readonly cpuPercent: number;
  readonly memoryUsed: number;
  readonly memoryTotal: number;
  readonly diskUsed: number;
  readonly diskTotal: number;
  /** Bytes a second; undefined when unknown. */
  readonly rx: number | undefined;
  readonly tx: number | undefined;
}

interface Member {
  readonly status: NodeStatus;
  readonly connectivity: ConnectivityState;
  /** -1 without a score. */
  readonly poot_score: number;
}

export type PoolFigures = ReturnType<typeof poolFigures>;

/** Averages count each node once; a figure that no node reports is undefined. */
export function poolFigures(members: readonly Member[], samples: readonly LastSample[]) {
  return {
    nodeCount: members.length,
    sampledNodes: samples.length,
    averageCpuPercent: average(samples.map(({ cpuPercent }) => cpuPercent)),
    averageMemoryPercent: average(samples.flatMap((one) => percent(one.memoryUsed, one.memoryTotal))),
    averageDiskPercent: average(samples.flatMap((one) => percent(one.diskUsed, one.diskTotal))),
    memoryUsedBytes: sum(samples.flatMap((one) => (one.memoryTotal > 0 ? one.memoryUsed : []))),
    memoryTotalBytes: sum(samples.flatMap((one) => (one.memoryTotal > 0 ? one.memoryTotal : []))),
    diskUsedBytes: sum(samples.flatMap((one) => (one.diskTotal > 0 ? one.diskUsed : []))),
    diskTotalBytes: sum(samples.flatMap((one) => (one.diskTotal > 0 ? one.diskTotal : []))),
    networkRxBytesPerSecond: sum(samples.flatMap(({ rx }) => rx ?? [])),
    networkTxBytesPerSecond: sum(samples.flatMap(({ tx }) => tx ?? [])),
    averagePootScore: average(members.flatMap(({ poot_score }) => (poot_score < 0 ? [] : [poot_score]))),
  };
}

const sum = (values: readonly number[]): number | undefined =>
  values.length === 0 ? undefined : values.reduce((total, value) => total + value, 0);

const average = (values: readonly number[]): number | undefined => {
  const total = sum(values);
  return total === undefined ? undefined : total / values.length;
};

const percent = (used: number, total: number): number[] => (total > 0 ? [(used / total) * 100] : []);
