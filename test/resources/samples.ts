// Nodes that report what they use.
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Point } from "../../src/resources/samples/sample.js";
import { connectNode, type NodeStream } from "../support/clients/node-stream.js";
import { aNode } from "../support/world/builders.js";
import { randomFrom } from "../support/world/random.js";
import { until } from "../support/world/until.js";
import type { ClockedWorld, World } from "../support/world/world.js";

export interface Told {
  readonly cpu?: number;
  /** Percent of memory and of disk. */
  readonly memory?: number;
  readonly disk?: number;
  readonly rx?: bigint;
  readonly tx?: bigint;
}

export const metricsOf = ({ cpu = 10, memory = 20, disk = 30, rx = 0n, tx = 0n }: Told) => ({
  cpuPercent: cpu,
  memoryUsedBytes: BigInt(Math.round(memory * 1e8)),
  memoryTotalBytes: 10_000_000_000n,
  diskUsedBytes: BigInt(Math.round(disk * 1e9)),
  diskTotalBytes: 100_000_000_000n,
  networkRxBytes: rx,
  networkTxBytes: tx,
});

/** Milliseconds of a clocked world after which a sample has been written. */
export const flushedMs = 6_000;

export interface Teller {
  readonly nodeId: string;
  readonly stream: NodeStream;
  tell(told: Told): Promise<unknown>;
}

export async function aTeller(world: World, nodeId?: string): Promise<Teller> {
  const id = nodeId ?? (await aNode(world.nodes)).nodeId;
  const stream = await connectNode(world, id);
  return { nodeId: id, stream, tell: (told) => stream.beat(undefined, metricsOf(told)) };
}

/** Reports each of these samples, far enough apart that each is kept, and waits until they are written. */
export async function tellAll(world: ClockedWorld, teller: Teller, all: readonly Told[]): Promise<void> {
  for (const told of all) {
    await teller.tell(told);
    await world.pass(flushedMs);
  }
}

export const untilCount = (world: World, nodeId: string, count: number) =>
  until(async () => (await world.nodes.getNodeResources({ nodeId })).summary?.count === count, `${count} samples show`);

export const timeOf = (at: Parameters<typeof timestampDate>[0] | undefined): number =>
  at === undefined ? Number.NaN : timestampDate(at).getTime();

/** A week of points up to `end`, one every `everyMinutes`, oldest first; some are left out, some have no rates. */
export function aWeek(seed: number, end: Date, everyMinutes = 1): Point[] {
  const random = randomFrom(seed);
  const count = (7 * 24 * 60) / everyMinutes;
  return Array.from({ length: count }, (_, place): Point[] => {
    const beforeMs = (count - place) * everyMinutes * 60_000;
    const at = end.getTime() - beforeMs + Math.floor(random() * 30_000);
    // Three hours of silence on the third day.
    const silent = beforeMs < 110 * 3_600_000 && beforeMs > 107 * 3_600_000;
    if (random() < 0.01 || silent) return [];
    const rates = random() < 0.05 ? {} : { rx: Math.floor(random() * 1e8), tx: Math.floor(random() * 1e6) };
    const memory = { mem: Math.floor(random() * 16e9), mem_total: 16e9 };
    const disk = { disk: Math.floor(random() * 1e12), disk_total: 1e12 };
    return [{ at, cpu: Math.round(random() * 10_000) / 100, ...memory, ...disk, ...rates }];
  }).flat();
}
