// All that a wallet has ever paid beside all that is recorded: nothing is left out of the counts, however much there is.
import { expect, test } from "vitest";
import type { SendingDocument } from "../../src/payouts/document.js";
import { type Gateway, GatewayAwayError, type SeenTransfer } from "../../src/payouts/gateway/gateway.js";
import { createReconciliation } from "../../src/payouts/reconcile.js";
import type { PayoutRepository } from "../../src/payouts/repository.js";

const block = { number: 7, id: "b7", timeMs: 7_000 };
const transfersOf = (prefix: string, count: number): SeenTransfer[] =>
  Array.from({ length: count }, (_, place) => ({
    ...{ txid: `${prefix}${place}`, recipient: "TRecipient", amountMinor: 1n, block },
  }));

/** A reconciliation over chains without a single recorded attempt. */
function reconciliation(
  chains: Readonly<Record<string, readonly SeenTransfer[] | "away">>,
  accepted: readonly string[],
) {
  const gatewayOf = (transfers: readonly SeenTransfer[] | "away") =>
    ({
      solid: async () => {
        if (transfers === "away") throw new GatewayAwayError("as this test wants it");
        return block;
      },
      transfersAfter: async () => ({ transfers, to: block }),
    }) as unknown as Gateway;
  const repository = { findByTxid: async () => null, async *all() {} } as unknown as PayoutRepository;
  const sending = { accepted: accepted.map((txid) => ({ txid })) } as unknown as SendingDocument;
  return createReconciliation({
    ...{ repository, look: async () => sending, vault: { fingerprint: (address) => address } },
    gateways: new Map(Object.entries(chains).map(([currency, found]) => [currency as "USDT", gatewayOf(found)])),
  })();
}

test("transfers that were accepted take no room from those that were not, and all are counted", async () => {
  const old = transfersOf("old", 150);
  const [report] = await reconciliation(
    { USDT: [...old, ...transfersOf("new", 120)] },
    old.map(({ txid }) => txid),
  );
  expect(report).toMatchObject({ matched: 0, missing: 0, orphan: 120, wrong: 0, accepted: 150, upTo: block });
  const told = report !== undefined && "unknown" in report ? report.unknown.map(({ txid }) => txid) : [];
  expect(told).toEqual(transfersOf("new", 100).map(({ txid }) => txid));
});

test("a chain that is away hides no other", async () => {
  const reports = await reconciliation({ USDT: "away", LUCID: transfersOf("new", 1) }, []);
  expect(reports).toMatchObject([
    { currency: "USDT", problem: "The chain cannot be read now" },
    { currency: "LUCID", orphan: 1 },
  ]);
  await expect(reconciliation({ USDT: "away" }, [])).rejects.toThrow("No chain can be read now");
});
