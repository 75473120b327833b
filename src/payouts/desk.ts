// What people and other services do with payouts: order, look, cancel, retry, approve, reject. The worker pays; the desk
// never sends anything.

import { type Keyed, once } from "../conventions/idempotency.js";
import type { Vault } from "../crypto.js";
import {
  Failure,
  type FieldViolation,
  keyReused,
  malformed,
  nodeNotFound,
  notAllowed,
  payoutBatchNotFound,
  payoutNotFound,
  payoutRefused,
} from "../failure.js";
import { newPayoutId } from "../ids.js";
import type { NodeDocument } from "../nodes/node.js";
import { present } from "../present.js";
import { DuplicateKeyError } from "../storage/collection.js";
import { eachOf } from "../task.js";
import { maskAddress } from "./address.js";
import { type Batches, changedBatch, holdsOf } from "./batches.js";
import type { BatchDocument, BatchItem, PayoutDocument } from "./document.js";
import type { Gateway } from "./gateway/gateway.js";
import { type Currency, currencies, sumOf } from "./money.js";
import { type Act, approved, cancelAsked, cancelled, created, type Order } from "./payout.js";
import { canonicalAddress, recipientProblem } from "./recipient.js";
import type { PayoutRepository } from "./repository.js";
import type { BatchOrder, Item, Key, PayoutOrder, Terms } from "./requests.js";
import type { Cancellation } from "./wire.js";

/** Who asks, for the record. */
export interface Asker {
  readonly subject: string;
  readonly requestId: string;
}

export interface DeskWitness {
  ordered(payouts: readonly PayoutDocument[]): void;
  done(payout: PayoutDocument): void;
}

export type Desk = ReturnType<typeof createDesk>;

const triesMax = 50;
const cancelsAtOnce = 20;
const violationsMax = 20;

export function createDesk(parts: {
  readonly repository: PayoutRepository;
  readonly batches: Batches;
  readonly gateways: ReadonlyMap<Currency, Gateway>;
  readonly vault: Vault;
  /** @throws Failure 5001 */
  readonly getNode: (nodeId: string) => Promise<NodeDocument>;
  /** The live nodes among these, at most 1000. */
  readonly findNodes: (nodeIds: readonly string[]) => Promise<ReadonlyMap<string, NodeDocument>>;
  readonly settings: {
    readonly maxRetries: number;
    /** In minor units: a larger payout or batch needs the approval of a second person. Undefined: none does. */
    readonly approvalThreshold: Readonly<Record<Currency, bigint | undefined>>;
  };
  readonly witness: DeskWitness;
}) {
  const { repository, batches, gateways, vault, settings, witness } = parts;

  const actOf = async ({ subject, requestId }: Asker): Promise<Act> => ({
    ...{ at: await repository.now(), actor: subject, requestId },
  });

  const gatewayOf = (currency: Currency): Gateway => {
    const gateway = gateways.get(currency);
    if (gateway !== undefined) return gateway;
    throw payoutRefused(`No gateway pays ${currency}; set PAYOUT_GATEWAY_${currency}`);
  };

  const ownAddress = ({ payout_address: sealed }: NodeDocument): string | undefined =>
    sealed === undefined ? undefined : canonicalAddress(vault.open(sealed));

  /** The address that is paid, and from when. @throws Failure 5006, 4001 */
  const addressOf = (wanted: Item, node: NodeDocument, field: string, ownOf = ownAddress) => {
    if (node.banned) throw payoutRefused(`Node ${node._id} is banned`);
    const own = ownOf(node);
    const address = wanted.recipient ?? own;
    if (address === undefined)
      throw payoutRefused(`Node ${node._id} has no payout address; set one, or name the wallet`);
    const gateway = gatewayOf(wanted.currency);
    const problem = recipientProblem(wanted.currency, address) ?? gateway.recipientProblem(address);
    if (problem !== undefined) {
      if (wanted.recipient !== undefined) throw malformed({ field, description: problem });
      throw payoutRefused(`The payout address of node ${node._id} cannot take ${wanted.currency}: ${problem}`);
    }
    // Naming the node's own address does not shorten its wait.
    const usableAt = address === own ? node.payout_address_usable_at : undefined;
    return { address, usableAt };
  };

  /** The fields of a recipient as they are stored. */
  const recipientOf = (address: string) => ({
    recipient: vault.seal(address),
    recipient_fingerprint: vault.fingerprint(address),
    recipient_masked: maskAddress(address),
  });

  const needsApproval = (totals: Readonly<Record<Currency, bigint>>): boolean =>
    currencies.some((currency) => {
      const threshold = settings.approvalThreshold[currency];
      return threshold !== undefined && totals[currency] > threshold;
    });

  const totalsOf = (items: readonly { readonly currency: Currency; readonly amountMinor: bigint }[]) => {
    const total = (currency: Currency) =>
      sumOf(items.filter((item) => item.currency === currency).map(({ amountMinor }) => amountMinor));
    return { USDT: total("USDT"), LUCID: total("LUCID") };
  };

  /** Inserts a payout, and looks again at its node: a node that was deleted meanwhile is not paid. */
  const accept = async (payout: PayoutDocument, act: Act): Promise<PayoutDocument> => {
    await repository.insert(payout);
    witness.ordered([payout]);
    const nodes = await parts.findNodes([payout.node_id]);
    if (nodes.has(payout.node_id)) return payout;
    await endPending(payout._id, "The node was deleted", act);
    throw nodeNotFound(payout.node_id);
  };

  const orderOf = (wanted: Item & Terms, node: NodeDocument, by: string, now: Date) => {
    const { address, usableAt } = addressOf(wanted, node, "wallet_address");
    const approval = needsApproval(totalsOf([wanted])) ? ("needed" as const) : undefined;
    const order = present({
      ...{ _id: newPayoutId(now), node_id: node._id, currency: wanted.currency },
      ...{ amount_minor: `${wanted.amountMinor}`, priority: wanted.priority, created_by: by },
      ...{ max_retries: settings.maxRetries, scheduled_at: wanted.scheduledAt, approval },
      ...recipientOf(address),
    }) as Order;
    return { order, holds: holdsOf(wanted.scheduledAt, usableAt) };
  };

  const create = async (wanted: PayoutOrder, key: Key, by: Asker) => {
    const { made, replayed } = await once<PayoutDocument>({
      ...key,
      find: repository.findByKey,
      make: async (keyed: Keyed) => {
        if (wanted.problemsIfNew.length > 0) throw malformed(...wanted.problemsIfNew);
        const node = await parts.getNode(wanted.nodeId);
        const act = await actOf(by);
        const { order, holds } = orderOf(wanted, node, by.subject, act.at);
        return accept(created({ ...order, ...keyed }, holds, act), act);
      },
    });
    return { payout: made, replayed };
  };

  const retry = async (payoutId: string, key: Key, by: Asker) => {
    const { made, replayed } = await once<PayoutDocument>({
      ...key,
      find: repository.findByKey,
      make: async (keyed: Keyed) => {
        const former = await find(payoutId);
        if (former.status !== "failed")
          throw payoutRefused(`Payout ${payoutId} has not failed; only a failed one is retried`);
        const node = await parts.getNode(former.node_id);
        const act = await actOf(by);
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
          throw payoutRefused(`Payout ${payoutId} has been retried already, by ${other._id}`);
        }
      },
    });
    return { payout: made, replayed };
  };

  /** Work that many items of a batch have in common is done once: sealing costs as much as inserting. */
  const onceEach = <Key, Value>(make: (key: Key) => Value): ((key: Key) => Value) => {
    const made = new Map<Key, Value>();
    return (key) => {
      const value = made.get(key) ?? make(key);
      made.set(key, value);
      return value;
    };
  };

  /** All items checked, or a refusal that names every fault. @throws Failure 4001, 5001, 5006 */
  const itemsOf = async (wanted: readonly Item[]): Promise<BatchItem[]> => {
    const nodes = await parts.findNodes([...new Set(wanted.map(({ nodeId }) => nodeId))]);
    const violations: FieldViolation[] = [];
    const ownOf = onceEach(ownAddress);
    const paidAt = onceEach(recipientOf);
    const items = wanted.flatMap((item, index) => {
      const node = nodes.get(item.nodeId);
      if (node === undefined) throw nodeNotFound(item.nodeId);
      try {
        const { address, usableAt } = addressOf(item, node, `payout_requests[${index}].wallet_address`, ownOf);
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
    const { at, actor, requestId } = await actOf(by);
    const approval = needsApproval(totalsOf(order.items)) ? ("needed" as const) : undefined;
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

  const find = async (payoutId: string): Promise<PayoutDocument> => {
    const payout = await repository.find(payoutId);
    if (payout === null) throw payoutNotFound(payoutId);
    return payout;
  };
  const findBatch = async (batchId: string): Promise<BatchDocument> => {
    const batch = await repository.batches.find(batchId);
    if (batch === null) throw payoutBatchNotFound(batchId);
    return batch;
  };

  const tooBusy = () =>
    new Failure("LUCID_ERR_5031", "The payout changes too often now; try again", { retryAfterMs: 1_000 });

  /** Changes a payout by compare-and-set; `change` answers undefined to leave it as it is. */
  const change = async (
    payoutId: string,
    next: (payout: PayoutDocument) => PayoutDocument | undefined | Promise<PayoutDocument | undefined>,
  ): Promise<PayoutDocument> => {
    for (let tries = 0; tries < triesMax; tries++) {
      const found = await find(payoutId);
      const changed = await next(found);
      if (changed === undefined) return found;
      if (await repository.replace(found, changed)) {
        if (changed.phase === "done") witness.done(changed);
        return changed;
      }
    }
    throw tooBusy();
  };

  /** Cancels a payout that no worker has begun with; leaves any other as it is. */
  const endPending = (payoutId: string, reason: string, act: Act): Promise<PayoutDocument> =>
    change(payoutId, (payout) => (payout.status === "pending" ? cancelled(payout, reason, act) : undefined));

  const cancel = async (payoutId: string, by: Asker): Promise<{ payout: PayoutDocument; outcome: Cancellation }> => {
    const act = await actOf(by);
    const payout = await change(payoutId, (found) => {
      if (found.status === "pending") return cancelled(found, `Cancelled by ${by.subject}`, act);
      const isAsked = found.phase === "done" || found.cancel_requested === true;
      return isAsked ? undefined : cancelAsked(found, `Cancellation requested by ${by.subject}`, act);
    });
    if (payout.phase !== "done") return { payout, outcome: "requested" };
    return { payout, outcome: payout.status === "cancelled" ? "cancelled" : "too late" };
  };

  const changeBatch = async (
    batchId: string,
    next: (batch: BatchDocument) => BatchDocument | undefined,
  ): Promise<BatchDocument> => {
    for (let tries = 0; tries < triesMax; tries++) {
      const found = await findBatch(batchId);
      const changed = next(found);
      if (changed === undefined) return found;
      if (await repository.batches.replace(found, changed)) return changed;
    }
    throw tooBusy();
  };

  const cancelBatch = async (batchId: string, by: Asker) => {
    const act = await actOf(by);
    const batch = await changeBatch(batchId, (found) =>
      found.approval === "needed" && found.cancelled === undefined
        ? changedBatch(found, { cancelled: true }, toldOf(act, "cancel", `Cancelled by ${by.subject}`))
        : undefined,
    );
    const ids: Record<Cancellation, string[]> = { cancelled: [], requested: [], "too late": [] };
    if (batch.cancelled !== true) {
      // Every item becomes a payout first, so that each has an end and a story.
      if (batch.expanding === true) await batches.expand(batch);
      for await (const page of repository.all({ batchId })) {
        await eachOf(page, cancelsAtOnce, async ({ _id }) => {
          const { outcome } = await cancel(_id, by);
          ids[outcome].push(_id);
        });
      }
    }
    return { cancelled: ids.cancelled.sort(), requested: ids.requested.sort(), tooLate: ids["too late"].sort() };
  };

  /** @throws Failure 4031 for the subject that created it, 5006 when it needs no approval */
  const checkApprover = (
    made: { readonly approval?: string; readonly created_by: string },
    by: Asker,
    isOver: boolean,
  ) => {
    if (made.created_by === by.subject) throw notAllowed("A second person has to approve or reject, not the creator");
    if (made.approval === undefined) throw payoutRefused("It needs no approval");
    if (isOver) throw payoutRefused("It is done already");
  };

  const approve = async (payoutId: string, note: string, by: Asker): Promise<PayoutDocument> => {
    const act = await actOf(by);
    return change(payoutId, async (payout) => {
      checkApprover(payout, by, payout.approval === "needed" && payout.phase === "done");
      if (payout.approval === "given") return undefined;
      const node = (await parts.findNodes([payout.node_id])).get(payout.node_id);
      const isOwn = node !== undefined && ownAddress(node) === vault.open(payout.recipient);
      const usableAt = isOwn ? node.payout_address_usable_at : undefined;
      return approved(payout, holdsOf(payout.scheduled_at, usableAt), note, act);
    });
  };

  const reject = async (payoutId: string, reason: string, by: Asker): Promise<PayoutDocument> => {
    const act = await actOf(by);
    return change(payoutId, (payout) => {
      checkApprover(payout, by, payout.approval === "given");
      return payout.status === "cancelled" ? undefined : cancelled(payout, `Rejected: ${reason}`, act);
    });
  };

  const approveBatch = async (batchId: string, note: string, by: Asker): Promise<BatchDocument> => {
    const act = await actOf(by);
    const batch = await changeBatch(batchId, (found) => {
      checkApprover(found, by, found.cancelled === true);
      if (found.approval === "given") return undefined;
      return changedBatch(found, { approval: "given", expanding: true }, toldOf(act, "approve", note));
    });
    batches.wake();
    return batch;
  };

  const rejectBatch = async (batchId: string, reason: string, by: Asker): Promise<BatchDocument> => {
    const act = await actOf(by);
    return changeBatch(batchId, (found) => {
      checkApprover(found, by, found.approval === "given");
      if (found.cancelled === true) return undefined;
      return changedBatch(found, { cancelled: true }, toldOf(act, "reject", reason));
    });
  };

  return {
    create,
    createBatch,
    retry,
    find,
    findBatch,
    cancel,
    cancelBatch,
    approve,
    reject,
    approveBatch,
    rejectBatch,
  };
}

const toldOf = ({ at, actor, requestId }: Act, step: string, reason: string) => ({
  ...{ at, step, actor, reason },
  ...(requestId === undefined ? {} : { request_id: requestId }),
});
