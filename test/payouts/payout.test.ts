// The life of a payout: the table of its steps, and what each step refuses and changes.
import { describe, expect, it } from "vitest";
import { type PayoutDocument, type Phase, phases } from "../../src/payouts/document.js";
import {
  type Act,
  answered,
  approved,
  buried,
  cancelAsked,
  cancelled,
  completed,
  created,
  deferred,
  drafted,
  dropped,
  holdsClaim,
  isLegal,
  liveAttempt,
  type Order,
  refused,
  rejected,
  released,
  resent,
  reverted,
  type Step,
  sent,
  taken,
  transitions,
  waited,
} from "../../src/payouts/payout.js";

const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second));
const act = (second = 0, actor = "worker:w"): Act => ({ at: at(second), actor });
const block = { number: 9, id: "b9", timeMs: 9_000 };
const proof = { from: block, to: { ...block, number: 40 }, blocks: 31, nodes: 1 };
const order = (fields: Partial<Order> = {}): Order => ({
  ...{ _id: "payout_1", node_id: "node_1", currency: "USDT", amount_minor: "5", priority: "normal", max_retries: 1 },
  ...{ created_by: "ann", recipient: "sealed", recipient_fingerprint: "print", recipient_masked: "T…", ...fields },
});

// One payout in each phase, reached by the steps themselves.
const held = created(order({ approval: "needed" }), {}, act(0, "ann"));
const queued = created(order(), {}, act(0, "ann"));
const building = taken(queued, "w", at(30), act(1));
const attempt = (txid: string) => ({
  ...{ gateway: "sandbox", txid, raw: "sealed", ref_block: block, expires_at_ms: 60_000, built_at: at(2) },
});
const live = drafted(building, attempt("t1"), undefined, act(2));
const sending = sent(live, "signature", act(3));
const settling = answered(sending, { class: "accepted", code: "SUCCESS" }, at(60), act(4));
const mine = taken(settling, "w", at(90), act(60));
const done = completed(mine, { kind: "landed", block, fee: "1" }, act(61));

describe("the table of steps", () => {
  // Written out once more: a step that slips into the table is seen here.
  const legal = new Set([
    ...["create: none > held", "create: none > queued", "approve: held > held", "approve: held > queued"],
    ...["reject: held > done", "release: held > queued", "cancel: held > done", "cancel: queued > done"],
    ...["claim: queued > building", "defer: building > queued", "refuse: building > done"],
    ...["draft: building > building", "drop: building > building", "drop: building > done"],
    ...["send: building > sending", "answer: sending > settling", "resend: settling > settling"],
    ...["wait: settling > settling", "complete: settling > done", "revert: settling > building"],
    ...["revert: settling > done", "bury: settling > building", "bury: settling > queued", "bury: settling > done"],
    ...["take: building > building", "take: sending > sending", "take: settling > settling"],
    ...["ask: building > building", "ask: sending > sending", "ask: settling > settling"],
  ]);
  const from: readonly (Phase | "none")[] = ["none", ...phases];
  const pairs = (Object.keys(transitions) as Step[]).flatMap((step) =>
    from.flatMap((former) => phases.map((next) => [step, former, next] as const)),
  );

  it("allows these steps and no others", () => {
    const allowed = pairs.filter(([step, former, next]) => isLegal(step, former, next));
    expect(new Set(allowed.map(([step, former, next]) => `${step}: ${former} > ${next}`))).toEqual(legal);
  });

  it("leads from nowhere back into a payout that is done", () => {
    expect(pairs.filter(([step, former, next]) => former === "done" && isLegal(step, former, next))).toEqual([]);
  });

  const byPhase: Readonly<Record<string, PayoutDocument>> = { held, queued, building, sending, settling: mine, done };
  const answer = { class: "accepted", code: "SUCCESS" } as const;
  const reason = { code: "X", message: "x" };
  const steps: Readonly<Record<Exclude<Step, "create">, (payout: PayoutDocument) => PayoutDocument>> = {
    approve: (payout) => approved(payout, {}, "", act(0, "bob")),
    reject: (payout) => rejected(payout, "", act(0, "bob")),
    release: (payout) => released(payout, act()),
    cancel: (payout) => cancelled(payout, "", act()),
    claim: (payout) => taken(payout, "w", at(9), act()),
    take: (payout) => taken(payout, "w", at(9), act()),
    defer: (payout) => deferred(payout, reason, at(9), act()),
    refuse: (payout) => refused(payout, reason, act()),
    draft: (payout) => drafted(payout, attempt("t9"), undefined, act()),
    drop: (payout) => dropped(payout, "", act()),
    send: (payout) => sent(payout, "s", act()),
    answer: (payout) => answered(payout, answer, at(9), act()),
    resend: (payout) => resent(payout, at(9), act()),
    wait: (payout) => waited(payout, undefined, at(9), act()),
    complete: (payout) => completed(payout, { kind: "landed", block, fee: "1" }, act()),
    revert: (payout) => reverted(payout, { kind: "reverted", block, fee: "1", code: "X", retryable: true }, act()),
    bury: (payout) => buried(payout, proof, undefined, act()),
    ask: (payout) => cancelAsked(payout, "", act()),
  };
  /** One function takes a payout, from the queue or from a wait. */
  const namesOf = (step: string): readonly Step[] =>
    step === "claim" || step === "take" ? ["claim", "take"] : [step as Step];
  const wrong = Object.entries(steps).flatMap(([step, take]) =>
    Object.entries(byPhase)
      .filter(([phase]) => !namesOf(step).some((name) => transitions[name].from.some((former) => former === phase)))
      .map(([phase, payout]) => [step, phase, payout, take] as const),
  );
  it.each(wrong)("refuses to %s a payout that is %s", (_, __, payout, take) => {
    expect(() => take(payout)).toThrow();
  });
});

describe("a step", () => {
  it("makes the next version and tells of itself once", () => {
    expect(done.entries.map(({ version, step, from, to }) => [version, step, from, to])).toEqual([
      [1, "create", undefined, "queued"],
      [2, "claim", "queued", "building"],
      [3, "draft", "building", "building"],
      [4, "send", "building", "sending"],
      [5, "answer", "sending", "settling"],
      [7, "complete", "settling", "done"],
    ]);
    expect([done.version, done.status, done.open, done.place, done.wake_at]).toEqual([
      ...[7, "completed", undefined, undefined, undefined],
    ]);
  });

  it("belongs to the owner and the token of the last claim", () => {
    expect(holdsClaim(building, { owner: "w", token: 1 })).toBe(true);
    expect(holdsClaim(building, { owner: "v", token: 1 })).toBe(false);
    expect(holdsClaim(mine, { owner: "w", token: 1 })).toBe(false);
    expect(holdsClaim(settling, { owner: "w", token: 1 })).toBe(false);
  });

  it.each([
    ["a second transaction beside a live one", () => drafted(live, attempt("t2"), undefined, act())],
    ["a second first send", () => sent(sending, "s", act())],
    ["giving up a transaction that was sent", () => dropped({ ...sending, phase: "building" }, "", act())],
    ["putting off a live transaction", () => deferred(live, { code: "X", message: "x" }, at(9), act())],
    ["failing with a live transaction", () => refused(live, { code: "X", message: "x" }, act())],
    ["cancelling with a live transaction", () => cancelled({ ...live, phase: "queued" }, "", act())],
    ["a send after a cancellation was asked for", () => sent(cancelAsked(live, "", act()), "s", act())],
    [
      "a transaction after a cancellation was asked for",
      () => drafted(cancelAsked(building, "", act()), attempt("t2"), undefined, act()),
    ],
    ["an approval by the creator", () => approved(held, {}, "", act(0, "ann"))],
    ["a rejection by the creator", () => rejected(held, "", act(0, "ann"))],
    ["an approval that nobody needs", () => approved({ ...held, approval: "given" }, {}, "", act(0, "bob"))],
    ["a release before the approval", () => released(held, act())],
  ])("forbids %s", (_, step) => {
    expect(step).toThrow();
  });

  it("is not undone by what the payout was before", () => {
    expect(queued.phase).toBe("queued");
    expect(live.attempts[0]?.sends).toBe(0);
    expect(sending.attempts[0]?.sends).toBe(1);
  });
});

describe("the end of an attempt that moved no money", () => {
  const revert = (retryable: boolean, payout = mine) =>
    reverted(payout, { kind: "reverted", block, fee: "1", code: "OUT_OF_ENERGY", retryable }, act(61));

  it("is followed by another while one is left", () => {
    const again = revert(true);
    expect([again.phase, again.status, again.live_txid, again.retry_count]).toEqual([
      ...["building", "processing", undefined, 1],
    ]);
    expect(again.attempts[0]?.outcome).toBe("reverted");
    const exhausted = { ...mine, retry_count: 1 };
    expect([revert(true, exhausted).status, buried(exhausted, proof, undefined, act()).status]).toEqual([
      ...["failed", "failed"],
    ]);
  });

  it("is the payout's end when the chain would revert again, or a node refused the bytes", () => {
    expect(revert(false).status).toBe("failed");
    const refusal = { class: "refused", code: "SIGERROR" } as const;
    const attempts = mine.attempts.map((one) => ({ ...one, last_answer: refusal }));
    expect(buried({ ...mine, attempts }, proof, undefined, act()).status).toBe("failed");
    expect(buried(mine, proof, undefined, act()).phase).toBe("building");
  });

  it("cancels a payout that shall be cancelled, whatever is left", () => {
    const asked = { ...mine, cancel_requested: true as const };
    expect([revert(true, asked).status, buried(asked, proof, at(9), act()).status]).toEqual(["cancelled", "cancelled"]);
    expect(completed(asked, { kind: "landed", block, fee: "1" }, act()).status).toBe("completed");
  });

  it("costs no attempt when the wallet could not pay", () => {
    const back = buried(mine, proof, at(99), act(61));
    expect([back.phase, back.status, back.retry_count, back.wake_at, back.claim_owner]).toEqual([
      ...["queued", "pending", 0, at(99), undefined],
    ]);
    expect(() => liveAttempt(back)).toThrow();
  });
});
