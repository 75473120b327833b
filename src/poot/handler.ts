// PoOTService: each RPC reads its request, asks the feature, and shapes the answer.
import { durationMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  type BatchValidatePoOTRequest,
  type CalculatePoOTScoreRequest,
  type GetPoOTLeaderboardRequest,
  type GetPoOTStatisticsRequest,
  type ListPoOTValidationsRequest,
  PoOTService,
} from "../../gen/lucid/node/v1/poot_service_pb.js";
import type { Policy } from "../access/permission.js";
import type { Clock } from "../clock.js";
import type { Paging } from "../conventions/paging.js";
import { dateOf } from "../conventions/time.js";
import { cannotProve, poolNotFound, proofRefused, validationNotFound } from "../failure.js";
import type { NodeDocument } from "../nodes/node.js";
import { callerOf } from "../rpc/context.js";
import { procedureOf } from "../rpc/policies.js";
import { type Admission, mayProve } from "./admission.js";
import type { Batch, BatchResult } from "./batch.js";
import type { Challenges } from "./challenge.js";
import type { Proving } from "./proving.js";
import { keptSince, type PootRepository, type ValidationFilter } from "./repository.js";
import { reliabilityOf, scoreOf } from "./score.js";
import { ranked, type StandingDocument, totalsOver } from "./standing.js";
import { instantMs, isTimely, shapeFault } from "./verdict.js";
import {
  judgedToWire,
  outcomeFromWire,
  outcomeToWire,
  resultToWire,
  toInstant,
  toSubmission,
  validationToWire,
} from "./wire.js";

export const pootPolicies: Readonly<Record<keyof typeof PoOTService.method, Policy>> = {
  validatePoOT: { permission: "poot:validate", nodeToken: "self", tier: "poot" },
  batchValidatePoOT: { permission: "poot:batch", nodeToken: "handler", tier: "poot" },
  issuePoOTChallenge: { permission: "poot:validate", nodeToken: "self", tier: "poot" },
  // Every service role has poot:read; a node has its own score without it.
  getPoOTScore: { permission: "token", nodeToken: "self" },
  listPoOTValidations: { permission: "poot:read", nodeToken: "handler" },
  getPoOTValidation: { permission: "poot:read", nodeToken: "handler" },
  calculatePoOTScore: { permission: "poot:read", nodeToken: "handler" },
  getPoOTStatistics: { permission: "poot:read", nodeToken: "handler" },
  getPoOTLeaderboard: { permission: "poot:read", nodeToken: "handler" },
};

/** 1 MiB of output as base64 in JSON, and the rest of the request. */
const proofBytesMax = 1.5 * 1024 * 1024;

/** The most bytes of a request by procedure; `maxRequestBytes` is the most for any of them. */
export const pootReadMaxBytes = (maxRequestBytes: number): Readonly<Record<string, number>> => ({
  [procedureOf(PoOTService.method.validatePoOT)]: Math.min(proofBytesMax, maxRequestBytes),
  [procedureOf(PoOTService.method.batchValidatePoOT)]: maxRequestBytes,
});

const dayMs = 24 * 3_600_000;
const leaderboardDefault = 20;
const leaderboardPageMax = 200;
/** Pages of standings that a leaderboard reads at most. */
const leaderboardPagesMax = 50;

export interface PootHandlerParts {
  readonly repository: PootRepository;
  readonly proving: Proving;
  readonly batch: Batch;
  readonly admission: Admission;
  readonly challenges: Challenges;
  readonly paging: Paging;
  readonly clock: Clock;
  /** @throws Failure 5001 */
  readonly getNode: (nodeId: string) => Promise<NodeDocument>;
  /** The live nodes among these, at most 1000. */
  readonly findNodes: (nodeIds: readonly string[]) => Promise<Map<string, NodeDocument>>;
  /** The nodes in a pool, at most 1000; null when there is no such pool. */
  readonly findMembers: (poolId: string) => Promise<readonly NodeDocument[] | null>;
}

export function createPootHandler(parts: PootHandlerParts): ServiceImpl<typeof PoOTService> {
  const { repository, clock, paging } = parts;

  const standingsOfPool = async (poolId: string): Promise<StandingDocument[]> => {
    const members = await parts.findMembers(poolId);
    if (members === null) throw poolNotFound(poolId);
    return [...(await repository.standingsOf(members.map(({ _id }) => _id))).values()];
  };

  const batchValidate = async ({ validations }: BatchValidatePoOTRequest, context: HandlerContext) => {
    const { batchId, results } = await parts.batch.validate({
      submissions: validations.map(toSubmission),
      ownNodeId: callerOf(context).nodeId,
      // The verdicts must still reach the caller in time.
      budgetMs: 0.8 * (context.timeoutMs() ?? Number.POSITIVE_INFINITY),
      signal: context.signal,
    });
    return { batchId, results: results.map(resultToWire), summary: summaryOf(results) };
  };

  const list = async (request: ListPoOTValidationsRequest) => {
    const filter = {
      nodeId: request.nodeId || undefined,
      batchId: request.batchId || undefined,
      outcome: outcomeFromWire(request.outcome),
      since: request.since && dateOf("since", request.since),
      until: request.until && dateOf("until", request.until),
    };
    const binding = JSON.stringify(["poot", filter]);
    const window = paging.window(request, binding);
    const kept: ValidationFilter = { ...filter, since: later(filter.since, keptSince(clock.now())) };
    const page = await repository.list(kept, window);
    return {
      validations: page.items.map((verdict) => validationToWire(verdict)),
      pagination: await paging.pagination(window, binding, page.next, () => repository.countOf(kept)),
    };
  };

  const calculate = async (request: CalculatePoOTScoreRequest) => {
    await parts.getNode(request.nodeId);
    const { limits } = parts.admission;
    const sizeBytes = Number(request.outputSize);
    const fault = shapeFault(sizeBytes, request.nonce, limits);
    if (fault !== undefined) throw proofRefused(fault);
    const at = toInstant(request.timestamp);
    if (!isTimely(at, clock.now(), limits)) throw proofRefused("Timestamp out of valid range");
    const standing = await repository.standingOf(request.nodeId);
    const reliability = reliabilityOf(standing?.recent ?? []);
    return scoreOf({ sizeBytes, ageMs: clock.now().getTime() - instantMs(at), nonce: request.nonce, reliability });
  };

  const statistics = async (request: GetPoOTStatisticsRequest) => {
    const windowMs = request.window === undefined ? dayMs : durationMs(request.window);
    const standings =
      request.poolId === "" ? await standingsOfNode(request.nodeId) : await standingsOfPool(request.poolId);
    const { start, valid, invalid, rejected, score_sum: cents } = totalsOver(standings, windowMs, clock.now());
    const judged = valid + invalid;
    return {
      total: BigInt(judged + rejected),
      valid: BigInt(valid),
      invalid: BigInt(invalid),
      rejected: BigInt(rejected),
      ...(judged === 0 ? {} : { averageScore: cents / 100 / judged, validityRate: valid / judged }),
      since: timestampFromDate(start),
    };
  };

  const standingsOfNode = async (nodeId: string): Promise<StandingDocument[]> => {
    await parts.getNode(nodeId);
    const standing = await repository.standingOf(nodeId);
    return standing === null ? [] : [standing];
  };

  const leaderboard = async ({ limit: asked, poolId, window }: GetPoOTLeaderboardRequest) => {
    const limit = asked === 0 ? leaderboardDefault : asked;
    const since = window && new Date(clock.now().getTime() - durationMs(window));
    const isRecent = ({ last }: StandingDocument) => last !== undefined && (!since || last.calculated_at >= since);
    const best =
      poolId === "" ? await bestOfAll(limit, isRecent) : ranked((await standingsOfPool(poolId)).filter(isRecent));
    const entries = best.slice(0, limit).map(({ _id: nodeId, mean_score: score = 0, valid }, index) => {
      return { rank: index + 1, nodeId, score, valid: BigInt(valid) };
    });
    return { entries };
  };

  /** In the index's order, which is the order of `ranked`; deleted nodes are left out. */
  const bestOfAll = async (
    limit: number,
    isRecent: (standing: StandingDocument) => boolean,
  ): Promise<StandingDocument[]> => {
    const found: StandingDocument[] = [];
    let page = await repository.best(Math.min(limit, leaderboardPageMax));
    for (let pages = 1; ; pages++) {
      const recent = page.items.filter(isRecent);
      const nodes = recent.length === 0 ? new Map() : await parts.findNodes(recent.map(({ _id }) => _id));
      found.push(...recent.filter(({ _id }) => nodes.has(_id)));
      if (found.length >= limit || page.next === undefined || pages === leaderboardPagesMax) return found;
      page = await repository.best(leaderboardPageMax, page.next);
    }
  };

  return {
    validatePoOT: async (request, context) => ({
      validation: judgedToWire(await parts.proving.prove(toSubmission(request), context.signal)),
    }),
    batchValidatePoOT: batchValidate,

    issuePoOTChallenge: async ({ nodeId }) => {
      const node = await parts.getNode(nodeId);
      if (!mayProve(node)) throw cannotProve();
      const { nonce, expiresAt } = parts.challenges.issue(nodeId);
      return { nonce, expiresAt: timestampFromDate(expiresAt) };
    },

    getPoOTScore: async ({ nodeId }) => {
      await parts.getNode(nodeId);
      const standing = await repository.standingOf(nodeId);
      const { last, recent = [] } = standing ?? {};
      const known = { nodeId, reliability: reliabilityOf(recent), sampleSize: recent.length };
      if (last === undefined) return known;
      return {
        ...known,
        score: last.score,
        confidence: last.confidence,
        validationStatus: outcomeToWire[last.is_valid ? "valid" : "invalid"],
        outputHash: last.output_hash,
        calculatedAt: timestampFromDate(last.calculated_at),
      };
    },

    listPoOTValidations: list,

    getPoOTValidation: async ({ validationId }) => {
      const verdict = await repository.find(validationId);
      if (verdict === null || verdict.created_at < keptSince(clock.now())) throw validationNotFound(validationId);
      return { validation: validationToWire(verdict) };
    },

    calculatePoOTScore: calculate,
    getPoOTStatistics: statistics,
    getPoOTLeaderboard: leaderboard,
  };
}

const later = (one: Date | undefined, other: Date): Date => (one === undefined || one < other ? other : one);

function summaryOf(results: readonly BatchResult[]) {
  const verdicts = results.flatMap((one) => (typeof one === "object" && "verdict" in one ? [one.verdict] : []));
  const valid = verdicts.filter(({ is_valid }) => is_valid).length;
  const total = results.length;
  return { total, valid, invalid: verdicts.length - valid, errors: total - verdicts.length };
}
