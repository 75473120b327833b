// Stored documents to begin with, for tests of pure decisions.
import type { NodeDocument } from "../../../src/nodes/node.js";

export const aNodeDocument = (tweaks: Partial<NodeDocument> = {}): NodeDocument => ({
  _id: "node_00000000000000000000000001",
  name: "node",
  name_scope: "-",
  status: "inactive",
  status_reason: "",
  node_type: "worker",
  configuration_version: 0,
  configuration_applied: 0,
  labels: {},
  connectivity: "never_connected",
  last_heartbeat: new Date(0),
  poot_score: -1,
  agent_version: "",
  banned: false,
  live: true,
  session_epoch: 0,
  version: 1,
  change: 1,
  unlogged: [],
  created_at: new Date("2026-01-01T00:00:00Z"),
  updated_at: new Date("2026-01-01T00:00:00Z"),
  ...tweaks,
});
