// Valid things to begin with: a test states only what matters to it.
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import {
  type CreateNodeRequestSchema,
  type HardwareInfoSchema,
  type Node,
  type NodeService,
  NodeType,
} from "../../../gen/lucid/node/v1/node_service_pb.js";
import type { CreatePoolRequestSchema, NodePool, PoolService } from "../../../gen/lucid/node/v1/pool_service_pb.js";

type CreateNode = Exclude<MessageInitShape<typeof CreateNodeRequestSchema>, { $typeName: string }>;
type CreatePool = Exclude<MessageInitShape<typeof CreatePoolRequestSchema>, { $typeName: string }>;
type Hardware = Exclude<MessageInitShape<typeof HardwareInfoSchema>, { $typeName: string }>;

let names = 0;
/** A name that no other call of this process gives. */
export const aName = (prefix = "thing"): string => `${prefix}-${++names}`;

export async function aNode(nodes: Client<typeof NodeService>, request: CreateNode = {}): Promise<Node> {
  const { node } = await nodes.createNode({ name: aName("node"), nodeType: NodeType.WORKER, ...request });
  if (node === undefined) throw new Error("no node in the answer");
  return node;
}

export async function aPool(pools: Client<typeof PoolService>, request: CreatePool = {}): Promise<NodePool> {
  const { pool } = await pools.createPool({ name: aName("pool"), ...request });
  if (pool === undefined) throw new Error("no pool in the answer");
  return pool;
}

export const aHardware = (tweaks: Hardware = {}): Hardware => ({
  cpu: { cores: 8, frequencyMhz: 3200, architecture: "x64", model: "Ryzen" },
  memory: { totalBytes: 16_000_000_000n, type: "DDR5" },
  storage: [{ totalBytes: 500_000_000_000n, type: "SSD", interface: "NVMe" }],
  network: [{ interface: "eth0", speedMbps: 1000, macAddress: "02:00:00:00:00:01" }],
  ...tweaks,
});

/** A TRON address of a contract that everybody knows, and one more. */
export const tronAddress = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t";
/** A TRON address that payouts can go to: no token contract, and not the sandbox's wallet. */
export const payeeAddress = "TYE3wALUCdopQkYWyMyU2HJFtNzMvaqxjm";
export const otherTronAddress = "TLa2f6VPqDgRE67v1736s7bJ8Ray5wYjU7";
