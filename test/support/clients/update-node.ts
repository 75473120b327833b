// A node's update as a test writes it: the fields, and the paths of the mask behind them.
import type { Node } from "../../../gen/lucid/node/v1/node_service_pb.js";
import type { Clients } from "../world/world.js";

export const updateNode = (
  { nodes }: Pick<Clients, "nodes">,
  node: Partial<Node> & { nodeId: string },
  ...paths: string[]
) => {
  const { $typeName: _, ...rest } = node;
  return nodes.updateNode({ node: rest, updateMask: { paths } });
};
