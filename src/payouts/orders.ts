// Orders: single payouts, batches, and another try for what has failed. An order is accepted by one insert.
import { type Keyed, once } from "../conventions/idempotency.js";
import type { Vault } from "../crypto.js";
import {
  Failure,
  type FieldViolation,
  keyReused,
  malformed,
  nodeNotFound,
  payoutRefused,
  retriedAlready,
} from "../failure.js";
import { newPayoutId } from "../ids.js";
import type { NodeDocument } from "../nodes/node.js";
import { present } from "../present.js";
import { DuplicateKeyError } from "../storage/collection.js";
import { type Batches, holdsOf } from "./batches.js";
import type { Changes } from "./changes.js";
import type { BatchDocument, BatchItem, PayoutDocument } from "./document.js";
import { type Currency, currencies, sumOf } from "./money.js";
import type { Payees } from "./payee.js";
import { type Act, created, type Order } from "./payout.js";
import type { PayoutRepository } from "./repository.js";
import type { BatchOrder, Item, Key, PayoutOrder, Terms } from "./requests.js";

/** Who asks, for the record. */
export interface Asker {
  readonly subject: string;
  readonly requestId: string;
}

export interface OrderParts {
  readonly repository: PayoutRepository;
  readonly batches: Batches;
  readonly changes: Changes;
  readonly payees: Payees;
  readonly vault: Pick<Vault, "open">;
  /** @throws Failure 5001 */
  readonly getNode: (nodeId: string) => Promise<NodeDocument>;
  /** The live nodes among these, at most 1000. */
  readonly findNodes: (nodeIds: readonly string[]) => Promise<ReadonlyMap<string, NodeDocument>>;
  readonly settings: {
    readonly maxRetries: number;
    /** In minor units: a larger payout or batch needs the approval of a second person. Undefined: none does. */
    readonly approvalThreshold: Readonly<Record<Currency, bigint | undefined>>;
  };
  readonly ordered: (payouts: readonly PayoutDocument[]) => void;
}

export type Orders = ReturnType<typeof createOrders>;

const violationsMax = 20;

export const createOrders = (parts: OrderParts) => ({ ...singleOrders(parts), createBatch: batchOrders(parts) });

/** Who orders and when, by the store's clock. */
export const actOf = async (
  repository: Pick<PayoutRepository, "now">,
  { subject, requestId }: Asker,
): Promise<Act> => ({
  ...{ at: await repository.now(), actor: subject, requestId },
});

/** Whether the sum of any currency is above its threshold. */
function needsApproval(
  { approvalThreshold }: OrderParts["settings"],
  items: readonly Pick<Item, "currency" | "amountMinor">[],
): boolean {
  return currencies.some((currency) => {
    const threshold = approvalThreshold[currency];
    const wanted = items.filter((item) => item.currency === currency).map(({ amountMinor }) => amountMinor);
    return threshold !== undefined && sumOf(wanted) > threshold;
  });
}

/** Orders of one payout. */
function singleOrders(parts: OrderParts) {
  const { repository, changes, payees, vault, settings } = parts;

  /**
   * Inserts a payout, and looks again at its node: DeleteNode may have looked for open payouts before there was this one.
   * Then the payout is cancelled, if no worker was faster.
   */
  const accept = async (payout: PayoutDocument, act: Act): Promise<PayoutDocument> => {
    await repository.insert(payout);
    parts.ordered([payout]);
    const nodes = await parts.findNodes([payout.node_id]);
    return nodes.has(payout.node_id) ? payout : changes.endPending(payout._id, "The node was deleted", act);
  };

  /** @throws Failure 5001 when a new payout was cancelled at once, as its node was deleted meanwhile */
  const answerOf = ({ made, replayed }: { readonly made: PayoutDocument; readonly replayed: boolean }) => {
    if (!replayed && made.status === "cancelled") throw nodeNotFound(made.node_id);
    return { payout: made, replayed };
  };

  const orderOf = (wanted: Item & Terms, node: NodeDocument, by: string, now: Date) => {
    const { address, usableAt } = payees.addressOf(wanted, node, "wallet_address");
    const approval = needsApproval(settings, [wanted]) ? ("needed" as const) : undefined;
    const order = present({
      ...{ _id: newPayoutId(now), node_id: node._id, currency: wanted.currency },
      ...{ amount_minor: `${wanted.amountMinor}`, priority: wanted.priority, created_by: by },
      ...{ max_retries: settings.maxRetries, scheduled_at: wanted.scheduledAt, usable_at: usableAt, approval },
      ...payees.recipientOf(address),
    }) as Order;
    return { order, holds: holdsOf(wanted.scheduledAt, usableAt) };
  };

  const create = async (wanted: PayoutOrder, key: Key, by: Asker) => {
    const answer = await once<PayoutDocument>({
      ...key,
      find: repository.findByKey,
      make: async (keyed: Keyed) => {
        if (wanted.problemsIfNew.length > 0) throw malformed(...wanted.problemsIfNew);
        const node = await parts.getNode(wanted.nodeId);
        const act = await actOf(repository, by);
        const { order, holds } = orderOf(wanted, node, by.subject, act.at);
        return accept(created({ ...order, ...keyed }, holds, act), act);
      },
    });
    return answerOf(answer);
  };

  const retry = async (payoutId: string, key: Key, by: Asker) => {
    const answer = await once<PayoutDocument>({
      ...key,
      find: repository.findByKey,
      make: async (keyed: Keyed) => {
        const former = await changes.find(payoutId);
        if (former.status !== "failed")
          throw payoutRefused(`Payout ${payoutId} has not failed; only a failed one is retried`);
        const node = await parts.getNode(former.node_id);
        const act = await actOf(repository, by);
        const { currency, priority } = former;
        const wanted = {
          nodeId: node._id,
          currency,
          priority,
          amountMinor: BigInt(former.amount_minor),
          problemsIfNew: [],
        };
        const { order, holds } = orderOf(
          { ...wanted, recipient: vault.open(former.recipient) },
          node,
          by.subject,
          act.at,
        );
        try {
          return await accept(created({ ...order, ...keyed, retry_of: payoutId }, holds, act), act);
        } catch (error) {
          const other = error instanceof DuplicateKeyError ? await repository.findRetryOf(payoutId) : null;
          if (other === null || other.idempotency_id === key.id) throw error;
          throw retriedAlready(payoutId, other._id);
        }
      },
    });
    return answerOf(answer);
  };

  return { create, retry };
}

/** Orders of many payouts at once. */
function batchOrders(parts: OrderParts) {
  const { repository, batches, payees, settings } = parts;

  /** All items checked, or a refusal that names every fault. @throws Failure 4001, 5001, 5006 */
  const itemsOf = async (wanted: readonly Item[]): Promise<BatchItem[]> => {
    const nodes = await parts.findNodes([...new Set(wanted.map(({ nodeId }) => nodeId))]);
    const violations: FieldViolation[] = [];
    const ownOf = onceEach(payees.ownAddress);
    const paidAt = onceEach(payees.recipientOf);
    const items = wanted.flatMap((item, index) => {
      const node = nodes.get(item.nodeId);
      if (node === undefined) throw nodeNotFound(item.nodeId);
      try {
        const { address, usableAt } = payees.addressOf(item, node, `payout_requests[${index}].wallet_address`, ownOf);
        return [
          present({
            ...{ node_id: node._id, currency: item.currency, amount_minor: `${item.amountMinor}` },
            ...{ ...paidAt(address), usable_at: usableAt },
          }) as BatchItem,
        ];
      } catch (error) {
        if (!(error instanceof Failure) || error.violations.length === 0) throw error;
        violations.push(...error.violations);
        return [];
      }
    });
    if (violations.length > 0) throw malformed(...violations.slice(0, violationsMax));
    return items;
  };

  const createBatch = async (order: BatchOrder, meaning: string, by: Asker) => {
    const earlier = async () => {
      const found = await repository.batches.find(order.batchId);
      if (found !== null && found.idempotency_meaning !== meaning) throw keyReused();
      return found;
    };
    const before = await earlier();
    if (before !== null) return { batch: before, replayed: true };
    if (order.problemsIfNew.length > 0) throw malformed(...order.problemsIfNew.slice(0, violationsMax));
    const items = await itemsOf(order.items);
    const { at, actor, requestId } = await actOf(repository, by);
    const approval = needsApproval(settings, order.items) ? ("needed" as const) : undefined;
    const batch = present({
      ...{ _id: order.batchId, version: 1, idempotency_meaning: meaning, items },
      ...{ priority: order.priority, scheduled_at: order.scheduledAt, notification_url: order.notificationUrl },
      ...{ created_by: by.subject, created_at: at, updated_at: at, max_retries: settings.maxRetries, approval },
      expanding: approval === undefined ? (true as const) : undefined,
      entries: [present({ version: 1, at, step: "create", actor, request_id: requestId })],
      unmoved: true as const,
    }) as BatchDocument;
    try {
      await repository.batches.insert(batch);
    } catch (error) {
      if (!(error instanceof DuplicateKeyError)) throw error;
      const twin = await earlier();
      if (twin !== null) return { batch: twin, replayed: true };
      throw error;
    }
    batches.wake();
    return { batch, replayed: false };
  };

  return createBatch;
}

/** Work that many items of a batch have in common is done once: sealing costs as much as inserting. */
const onceEach = <Key, Value>(make: (key: Key) => Value): ((key: Key) => Value) => {
  const made = new Map<Key, Value>();
  return (key) => {
    const value = made.get(key) ?? make(key);
    made.set(key, value);
    return value;
  };
};
