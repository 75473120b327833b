// Payouts: what ordering one and a batch cost beside one insert of the same document, and how fast the sandbox settles
// them when its chain is at full speed.

import { Currency } from "../dist/gen/lucid/node/v1/common_pb.js";
import { systemClock } from "../dist/src/clock.js";
import { createPayoutRepository, payoutBatchesCollection, payoutsCollection } from "../dist/src/payouts/repository.js";
import { openSqliteStore } from "../dist/src/storage/sqlite/store.js";

const batchSize = 1000;
const money = { currency: Currency.USDT, amount: "1.5" };
let ordered = 0;

/** Orders payouts with a number of calls in flight. Answers milliseconds and microseconds of server CPU a call. */
async function order({ payouts, nodeId, server, calls, inFlight }) {
  const before = server.cpuNs();
  const beganMs = performance.now();
  let left = calls;
  const caller = async () => {
    while (left-- > 0) await payouts.createPayout({ nodeId, money, idempotencyKey: `bench-${ordered++}` });
  };
  await Promise.all(Array.from({ length: inFlight }, caller));
  return { ms: (performance.now() - beganMs) / calls, us: (server.cpuNs() - before) / 1000 / calls };
}

/** A list of milliseconds for each of: a payout ordered, and a batch accepted. The service pays meanwhile. */
export async function measureOrders({ payouts, nodeId, server, rounds, calls }) {
  const waits = { one: [], batch: [] };
  const payoutRequests = Array.from({ length: batchSize }, () => ({ nodeId, money }));
  await order({ payouts, nodeId, server, calls, inFlight: 1 });
  for (let round = 0; round <= rounds; round++) {
    const { ms } = await order({ payouts, nodeId, server, calls, inFlight: 1 });
    const beganMs = performance.now();
    await payouts.createBatchPayout({ payoutRequests });
    if (round > 0) {
      waits.one.push(ms);
      waits.batch.push(performance.now() - beganMs);
    }
  }
  return waits;
}

/** The same documents, inserted one by one into an embedded store of this process. */
export async function measureOrderInserts({ dataDir, into, rounds, calls }) {
  await using from = await openSqliteStore({ dir: dataDir, clock: systemClock, log: silent });
  const repository = await createPayoutRepository(from);
  const { items: batches } = await repository.batches.list({ limit: 1, skip: 0 });
  const { items: payouts } = await repository.list({}, { limit: 1, skip: 0 });
  const [payout, batch] = [payouts[0], batches[0]];
  await using store = await openSqliteStore({ dir: into, clock: systemClock, log: silent });
  const [ones, many] = [await store.collection(payoutsCollection), await store.collection(payoutBatchesCollection)];
  const waits = { one: [], batch: [] };
  for (let round = 0; round <= rounds; round++) {
    const beganMs = performance.now();
    for (let call = 0; call < calls; call++) {
      const id = `${round}_${call}`;
      await ones.insertOne({ ...fresh(payout), _id: `payout_${id}`, idempotency_id: id });
    }
    const oneMs = (performance.now() - beganMs) / calls;
    const batchMs = performance.now();
    await many.insertOne({ ...batch, _id: `batch_${round}` });
    if (round > 0) {
      waits.one.push(oneMs);
      waits.batch.push(performance.now() - batchMs);
    }
  }
  return waits;
}

/** A payout as it was when it was ordered, without what is unique to it. */
function fresh({ batch_id: _b, batch_index: _i, txid: _t, live_txid: _l, ...payout }) {
  return { ...payout, attempts: [] };
}

const silent = { info: () => {}, warn: () => {}, error: () => {} };

/**
 * Payouts that wait, until all are completed: payouts a second, and microseconds of server CPU for one from the queue to
 * its end.
 */
export async function measureSettling({ payouts, nodeId, server, count }) {
  const payoutRequests = Array.from({ length: Math.min(count, batchSize) }, () => ({ nodeId, money }));
  const before = server.cpuNs();
  const beganMs = performance.now();
  const ids = [];
  for (let made = 0; made < count; made += payoutRequests.length) {
    ids.push((await payouts.createBatchPayout({ payoutRequests })).batchId);
  }
  for (const batchId of ids) {
    for (;;) {
      const { batch } = await payouts.getPayoutBatch({ batchId });
      if ((batch.byStatus.PAYOUT_STATUS_COMPLETED ?? 0) === batch.itemCount) break;
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
  const seconds = (performance.now() - beganMs) / 1000;
  return { perSecond: count / seconds, cpuUs: (server.cpuNs() - before) / 1000 / count };
}
