// What every gateway promises, whatever its chain and its nodes do. The test moves the chain's time.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { FaultName } from "../../src/payouts/gateway/faults.js";
import {
  type Answer,
  type Draft,
  type Gateway,
  GatewayAwayError,
  type SeenTransfer,
  type Sought,
  type Transfer,
  type Verdict,
} from "../../src/payouts/gateway/gateway.js";

export interface OpenGateway {
  readonly gateway: Gateway;
  /** Another replica's, on the same chain. */
  readonly other: Gateway;
  readonly blockMs: number;
  /** Two that can be paid. */
  readonly recipients: readonly [string, string];
  /** Moves the chain's time. */
  advance(ms: number): Promise<void>;
  /** What goes wrong from now on, at each chance; nothing without arguments. */
  suffer(...faults: readonly FaultName[]): void;
  close(): Promise<void>;
}

/** `open` answers a gateway on a chain without transactions; it is called before each test. */
export function describeGateway(name: string, open: () => Promise<OpenGateway>): void {
  describe(`${name}: the gateway`, () => {
    let at: OpenGateway;
    beforeEach(async () => {
      at = await open();
    });
    afterEach(() => at.close());

    const transfer = (given: Partial<Transfer> = {}): Transfer => ({
      ...{ recipient: at.recipients[0], amountMinor: 1_500_000n },
      ...given,
    });
    const soughtOf = (wanted: Transfer, { txid, refBlock, expiresAtMs }: Draft): Sought => ({
      ...{ ...wanted, txid, refBlock, expiresAtMs },
    });
    const sendBy = async (gateway: Gateway, draft: Draft): Promise<Answer> =>
      gateway.send({ txid: draft.txid, raw: draft.raw, signature: await gateway.sign(draft) });
    /** Builds and sends, with what goes wrong meanwhile. */
    const pay = async (stamp: number, wanted = transfer(), ...faults: readonly FaultName[]) => {
      const draft = await at.gateway.draft(wanted, stamp);
      at.suffer(...faults);
      const answer = await sendBy(at.gateway, draft);
      at.suffer();
      return { draft, answer, sought: soughtOf(wanted, draft) };
    };
    const settle = () => at.advance(at.gateway.solidAfterMs + at.blockMs);
    /** Long enough for any attempt that was just drafted: its expiration, and until the block there is solid. */
    const outlast = async ({ expiresAtMs, refBlock }: Sought) => {
      await at.advance(expiresAtMs - refBlock.timeMs);
      await settle();
    };
    const allTransfers = async (gateway = at.gateway, after = 0): Promise<SeenTransfer[]> => {
      const all: SeenTransfer[] = [];
      const solid = await gateway.solid();
      for (let from = after; ; ) {
        const { transfers, to } = await gateway.transfersAfter(from);
        all.push(...transfers);
        if (to.number >= solid.number || to.number <= from) return all;
        from = to.number;
      }
    };
    /** Judges before each block, until it is no longer open. At most 2000 blocks. */
    const firstVerdict = async (sought: Sought): Promise<{ verdict: Verdict; solidBefore: number }> => {
      let solidBefore = -1;
      for (let blocks = 0; blocks < 2000; blocks++) {
        const verdict = await at.gateway.judge(sought);
        if (verdict.kind !== "open") return { verdict, solidBefore };
        solidBefore = verdict.solid.number;
        await at.advance(at.blockMs);
      }
      throw new Error("The attempt is open for ever");
    };

    it("pays once, and says so only by a solid block", async () => {
      const before = await at.gateway.balance();
      const { draft, answer, sought } = await pay(1);
      expect(answer.class).toBe("accepted");
      expect(await at.gateway.judge(sought)).toMatchObject({ kind: "open", seen: true });
      await at.advance(at.blockMs);
      expect(await at.gateway.judge(sought)).toMatchObject({ kind: "open", seen: true });
      expect(await allTransfers()).toEqual([]);
      const { verdict, solidBefore } = await firstVerdict(sought);
      expect(verdict).toMatchObject({ kind: "landed" });
      if (verdict.kind !== "landed") return;
      expect(verdict.block.number).toBeGreaterThan(draft.refBlock.number);
      expect(verdict.block.number).toBe(solidBefore + 1);
      expect(verdict.fee).toMatch(/^[0-9]+$/);
      expect(await allTransfers()).toEqual([{ ...transfer(), txid: draft.txid, block: verdict.block }]);
      expect(await at.gateway.balance()).toBe(before - transfer().amountMinor);
      // It stays so.
      await outlast(sought);
      expect(await at.gateway.judge(sought)).toEqual(verdict);
      expect(await at.other.judge(sought)).toEqual(verdict);
    });

    it("builds on a solid block, signs the same the same, and sends nothing by itself", async () => {
      const draft = await at.gateway.draft(transfer(), 7);
      expect(draft.refBlock.number).toBeLessThanOrEqual((await at.gateway.solid()).number);
      expect(draft.expiresAtMs).toBeGreaterThan(draft.refBlock.timeMs);
      expect(await at.gateway.sign(draft)).toBe(await at.other.sign(draft));
      const sought = soughtOf(transfer(), draft);
      await outlast(sought);
      expect((await at.gateway.judge(sought)).kind).toBe("dead");
      expect(await allTransfers()).toEqual([]);
    });

    it.each(["lost", "unsent"] as const)(
      "a transaction that was %s is dead after proof, and not earlier",
      async (fault) => {
        const { draft, sought } = await pay(1, transfer(), fault);
        const { verdict, solidBefore } = await firstVerdict(sought);
        expect(verdict.kind).toBe("dead");
        if (verdict.kind !== "dead") return;
        const { from, to, blocks, nodes } = verdict.proof;
        expect(from).toEqual(draft.refBlock);
        expect(to.timeMs).toBeGreaterThanOrEqual(draft.expiresAtMs);
        expect(to.timeMs - at.blockMs).toBeLessThan(draft.expiresAtMs);
        expect(blocks).toBe(to.number - from.number);
        expect(nodes).toBeGreaterThanOrEqual(1);
        // The look before this one could not see the last block that might have held it.
        expect(solidBefore).toBe(to.number - 1);
        // Bytes that come now come too late, for ever.
        expect((await sendBy(at.other, draft)).class).not.toBe("accepted");
        await outlast(sought);
        expect((await at.other.judge(sought)).kind).toBe("dead");
        expect(await allTransfers()).toEqual([]);
      },
    );

    it("a transaction may land in the block after its expiration, whose parent came before it", async () => {
      const { sought } = await pay(1, transfer(), "late");
      const { verdict } = await firstVerdict(sought);
      expect(verdict.kind).toBe("landed");
      if (verdict.kind !== "landed") return;
      expect(verdict.block.timeMs).toBeGreaterThanOrEqual(sought.expiresAtMs);
      expect(verdict.block.timeMs - at.blockMs).toBeLessThan(sought.expiresAtMs);
    });

    it("sent twice, by two replicas, before and after it landed, it pays once", async () => {
      const { draft, sought } = await pay(1);
      expect((await sendBy(at.other, draft)).class).toBe("known");
      await Promise.all([sendBy(at.gateway, draft), sendBy(at.other, draft)]);
      await at.advance(at.blockMs * 3);
      expect((await sendBy(at.other, draft)).class).toBe("known");
      await settle();
      expect((await at.gateway.judge(sought)).kind).toBe("landed");
      await sendBy(at.other, draft);
      await outlast(sought);
      expect((await allTransfers()).length).toBe(1);
    });

    it("a lost answer says nothing: the transaction lands", async () => {
      const { answer, sought } = await pay(1, transfer(), "unanswered");
      expect(answer.class).toBe("unanswered");
      await settle();
      expect((await at.gateway.judge(sought)).kind).toBe("landed");
    });

    it("a busy node takes the same bytes later", async () => {
      const { answer, draft, sought } = await pay(1, transfer(), "busy");
      expect(answer.class).toBe("busy");
      expect(await at.gateway.judge(sought)).toMatchObject({ kind: "open", seen: false });
      expect((await sendBy(at.other, draft)).class).toBe("accepted");
      await settle();
      expect((await at.gateway.judge(sought)).kind).toBe("landed");
    });

    it("lies of a node change nothing: solid blocks decide", async () => {
      const made = [];
      for (let stamp = 0; stamp < 8; stamp++) made.push(await pay(stamp, transfer(), "lying"));
      for (const { answer } of made) expect(["known", "refused"]).toContain(answer.class);
      const [first] = made;
      if (first !== undefined) await outlast(first.sought);
      await settle();
      const kinds = await Promise.all(made.map(async ({ sought }) => (await at.gateway.judge(sought)).kind));
      expect(kinds.filter((kind) => kind === "landed" || kind === "dead").length).toBe(made.length);
      const paid = made.filter((_, place) => kinds[place] === "landed").map(({ draft }) => draft.txid);
      expect((await allTransfers()).map(({ txid }) => txid).sort()).toEqual(paid.sort());
      // The seed of the test gives both lies.
      expect(paid.length).toBeGreaterThan(0);
      expect(paid.length).toBeLessThan(made.length);
    });

    it("a node that lags behind delays a verdict and changes none", async () => {
      const { sought } = await pay(1);
      const lost = await pay(2, transfer(), "lost");
      at.suffer("lagging");
      for (let blocks = 0; blocks < 30; blocks++) {
        await at.advance(at.blockMs);
        expect(["open", "landed"]).toContain((await at.gateway.judge(sought)).kind);
        expect((await at.gateway.judge(lost.sought)).kind).toBe("open");
      }
      at.suffer();
      await outlast(lost.sought);
      expect((await at.gateway.judge(sought)).kind).toBe("landed");
      expect((await at.gateway.judge(lost.sought)).kind).toBe("dead");
    });

    it("a chain that is away is said to be away, and a send is unanswered or taken", async () => {
      const { draft, sought } = await pay(1);
      at.suffer("away");
      const { gateway } = at;
      const asked: readonly (() => Promise<unknown>)[] = [
        () => gateway.preflight(transfer()),
        () => gateway.draft(transfer(), 2),
        () => gateway.judge(sought),
        () => gateway.solid(),
        () => gateway.balance(),
        () => gateway.transfersAfter(0),
      ];
      for (const ask of asked) await expect(ask(), String(ask)).rejects.toBeInstanceOf(GatewayAwayError);
      await sendBy(gateway, draft);
      at.suffer();
      await settle();
      expect((await gateway.judge(sought)).kind).toBe("landed");
      expect((await allTransfers()).length).toBe(1);
    });

    it("two equal transfers are two transactions when their stamps differ, and both are paid", async () => {
      const [one, two] = [await pay(1), await pay(2)];
      expect(one.draft.txid).not.toBe(two.draft.txid);
      const drafts = [await at.gateway.draft(transfer(), 3), await at.other.draft(transfer(), 3)];
      // The same stamp may give the same txid, and then they are the same transaction.
      if (drafts[0]?.txid === drafts[1]?.txid) expect(drafts[0]?.raw).toBe(drafts[1]?.raw);
      await settle();
      for (const { sought } of [one, two]) expect((await at.gateway.judge(sought)).kind).toBe("landed");
      expect((await allTransfers()).length).toBe(2);
    });

    it.each([
      ["revert", true],
      ["reject", false],
    ] as const)("a %s moves nothing and is final; retryable: %s", async (fault, retryable) => {
      const before = await at.gateway.balance();
      const { draft, sought } = await pay(1, transfer(), fault);
      await settle();
      const verdict = await at.gateway.judge(sought);
      expect(verdict).toMatchObject({ kind: "reverted", retryable });
      expect(await at.gateway.balance()).toBe(before);
      expect(await allTransfers()).toEqual([]);
      // The same bytes again change nothing.
      await sendBy(at.gateway, draft);
      await settle();
      expect(await at.gateway.judge(sought)).toEqual(verdict);
    });

    it("another amount or recipient than was wanted is wrong", async () => {
      const { sought } = await pay(1);
      await settle();
      expect((await at.gateway.judge({ ...sought, amountMinor: sought.amountMinor + 1n })).kind).toBe("wrong");
      expect((await at.gateway.judge({ ...sought, recipient: at.recipients[1] })).kind).toBe("wrong");
    });

    it("bytes without our signature are refused", async () => {
      const draft = await at.gateway.draft(transfer(), 1);
      const signature = await at.gateway.sign({ ...draft, txid: `${draft.txid.slice(0, -1)}x` });
      expect((await at.gateway.send({ txid: draft.txid, raw: draft.raw, signature })).class).toBe("refused");
      const sought = soughtOf(transfer(), draft);
      await outlast(sought);
      expect((await at.gateway.judge(sought)).kind).toBe("dead");
    });

    it("tells each transfer once and in order, from any block on", async () => {
      const sent: string[] = [];
      const told: string[] = [];
      let from = (await at.gateway.solid()).number;
      for (let stamp = 0; stamp < 6; stamp++) {
        const amountMinor = 1_000_000n + BigInt(stamp);
        sent.push((await pay(stamp, transfer({ amountMinor, recipient: at.recipients[1] }))).draft.txid);
        if (stamp === 3) await settle();
        await at.advance(at.blockMs * 4);
        const { transfers, to } = await (stamp % 2 === 0 ? at.gateway : at.other).transfersAfter(from);
        told.push(...transfers.map(({ txid }) => txid));
        expect(to.number).toBeGreaterThanOrEqual(from);
        from = to.number;
      }
      await settle();
      told.push(...(await allTransfers(at.other, from)).map(({ txid }) => txid));
      expect(told).toEqual(sent);
      const whole = await allTransfers();
      expect(whole.map(({ txid }) => txid)).toEqual(sent);
      const blocks = whole.map(({ block }) => block.number);
      expect(blocks).toEqual(blocks.toSorted((a, b) => a - b));
    });

    it("says before a payment what can never be paid, and what cannot be paid now", async () => {
      expect(at.gateway.recipientProblem(at.recipients[0])).toBeUndefined();
      expect(at.gateway.recipientProblem(at.gateway.wallet)).toBeDefined();
      expect((await at.gateway.preflight(transfer())).kind).toBe("ready");
      expect((await at.gateway.preflight(transfer({ recipient: at.gateway.wallet }))).kind).toBe("refused");
      const amountMinor = (await at.gateway.balance()) + 1n;
      expect((await at.gateway.preflight(transfer({ amountMinor }))).kind).toBe("waits");
    });
  });
}
