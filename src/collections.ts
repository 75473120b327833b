// Every collection that the store holds. `lucid-node migrate` reads this list, and so does whatever else works on all.
import { tokensCollection } from "./access/tokens.js";
import { auditCollection } from "./admin/audit.js";
import { nodeLogCollection } from "./nodes/history/log.js";
import { nodesCollection } from "./nodes/repository.js";
import { sandboxChainCollection, sandboxTransactionsCollection } from "./payouts/gateway/sandbox-head.js";
import {
  payoutBatchesCollection,
  payoutDaysCollection,
  payoutSendingCollection,
  payoutsCollection,
} from "./payouts/repository.js";
import { payoutEventsCollection } from "./payouts/story.js";
import { poolsCollection } from "./pools/repository.js";
import { standingsCollection, validationsCollection } from "./poot/repository.js";
import { leasesCollection } from "./replicas/lease.js";
import { replicasCollection } from "./replicas/roster.js";
import { resourceAlertsCollection } from "./resources/alerts/repository.js";
import { resourceAllocationsCollection } from "./resources/allocations/allocator.js";
import { resourceHoursCollection, resourceMetricsCollection } from "./resources/samples/repository.js";
import type { CollectionDefinition } from "./storage/collection.js";

/** Every collection of the service. */
export const collections: readonly CollectionDefinition[] = [
  nodesCollection,
  nodeLogCollection,
  poolsCollection,
  validationsCollection,
  standingsCollection,
  tokensCollection,
  leasesCollection,
  replicasCollection,
  resourceMetricsCollection,
  resourceHoursCollection,
  resourceAlertsCollection,
  resourceAllocationsCollection,
  payoutsCollection,
  payoutBatchesCollection,
  payoutEventsCollection,
  payoutSendingCollection,
  payoutDaysCollection,
  sandboxChainCollection,
  sandboxTransactionsCollection,
  auditCollection,
];
