// A PayoutService on a port of its own that answers as the test tells it, for answers that a real one gives only by
// accident.
import { createServer, type Http2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import {
  type CreatePayoutRequest,
  type Payout,
  type PayoutBatchSchema,
  PayoutPhase,
  PayoutSchema,
  PayoutService,
  PayoutStatus,
} from "../../../gen/lucid/node/v1/payout_service_pb.js";

export interface PayoutDouble extends AsyncDisposable {
  readonly baseUrl: string;
  /** The batch's next states, or what is thrown instead; the first one answers its creation. */
  readonly batches: (MessageInitShape<typeof PayoutBatchSchema> | ConnectError)[];
  readonly orders: CreatePayoutRequest[];
  /** Of orders and retries. */
  readonly keys: string[];
  /** What each order makes. */
  readonly made: Payout;
  /** The next order is refused with it. */
  fail(error: ConnectError): void;
}

export async function openPayoutDouble(): Promise<PayoutDouble> {
  const batches: PayoutDouble["batches"] = [];
  const orders: CreatePayoutRequest[] = [];
  const keys: string[] = [];
  const made = create(PayoutSchema, {
    ...{ payoutId: "payout_one", status: PayoutStatus.PENDING, phase: PayoutPhase.QUEUED },
  });
  let failure: ConnectError | undefined;
  const take = (key: string) => {
    keys.push(key);
    const thrown = failure;
    failure = undefined;
    if (thrown !== undefined) throw thrown;
    return { payout: made };
  };
  const nextBatch = () => {
    const next = batches.shift();
    if (next === undefined) throw new Error("no batch is left to answer");
    if (next instanceof ConnectError) throw next;
    return { itemCount: 1, ...next };
  };
  const service: Partial<ServiceImpl<typeof PayoutService>> = {
    createPayout: (request) => {
      orders.push(request);
      return take(request.idempotencyKey);
    },
    retryPayout: ({ idempotencyKey }) => take(idempotencyKey),
    createBatchPayout: ({ batchId }) => ({ batchId, batch: { batchId, ...nextBatch() } }),
    getPayoutBatch: ({ batchId }) => ({ batch: { batchId, ...nextBatch() } }),
  };
  const sessions = new Set<Http2Session>();
  const server = createServer(
    {},
    connectNodeAdapter({ routes: (router) => void router.service(PayoutService, service) }),
  );
  server.on("session", (session) => sessions.add(session));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    ...{ batches, orders, keys, made },
    fail: (error) => {
      failure = error;
    },
    [Symbol.asyncDispose]: async () => {
      for (const session of sessions) session.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
