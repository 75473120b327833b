// A node's standing by its counted verdicts: the history that its reliability is computed from, and running totals, so
// that no question about them reads verdicts. Pure.
import { type Counted, historyMax, roundCents } from "./score.js";
import type { ValidationDocument } from "./verdict.js";

/** Totals of proofs whose verdict was made in one hour or one day (UTC). */
export interface Totals {
  readonly start: Date;
  readonly valid: number;
  readonly invalid: number;
  readonly rejected: number;
  /** Sum of the verdicts' scores, in hundredths of a point. */
  readonly score_sum: number;
}

/** The last counted verdict. */
export interface LastVerdict {
  readonly score: number;
  readonly confidence: number;
  readonly is_valid: boolean;
  readonly output_hash: string;
  readonly calculated_at: Date;
}

/** One node's document. */
export interface StandingDocument {
  readonly _id: string;
  /** Grows by one with each count. */
  readonly version: number;
  /** Verdicts that the newest count took in. All verdicts counted before are marked; see counting.ts. */
  readonly taken: readonly string[];
  /** The newest counted verdicts, at most 100, oldest first. */
  readonly recent: readonly Counted[];
  /** Absent while there are only rejections. */
  readonly last?: LastVerdict;
  /** Mean of `recent`, two decimals; present with `last`. */
  readonly mean_score?: number;
  /** Totals since the first proof. */
  readonly valid: number;
  readonly invalid: number;
  readonly rejected: number;
  /** Oldest first: the last 48 hours and the last 31 days, each with the current one in addition. */
  readonly hours: readonly Totals[];
  readonly days: readonly Totals[];
  readonly write_id?: string;
}

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
// One more than the longest window, because the current hour or day is not over yet.
const hoursMax = 49;
const daysMax = 32;

export const newStanding = (nodeId: string): StandingDocument => ({
  _id: nodeId,
  version: 0,
  taken: [],
  recent: [],
  valid: 0,
  invalid: 0,
  rejected: 0,
  hours: [],
  days: [],
});

/** The standing after these verdicts, in their order, and `rejected` rejections at `now` are counted. */
export function counted(
  standing: StandingDocument,
  verdicts: readonly ValidationDocument[],
  rejected: number,
  now: Date,
): StandingDocument {
  const recent = [...standing.recent, ...verdicts.map(({ is_valid: valid, score }) => ({ valid, score }))].slice(
    -historyMax,
  );
  const last = verdicts.reduce(newerOf, standing.last);
  const valid = verdicts.filter((verdict) => verdict.is_valid).length;
  return {
    ...standing,
    version: standing.version + 1,
    taken: verdicts.map(({ _id }) => _id),
    recent,
    ...(last === undefined ? {} : { last, mean_score: meanScore(recent) }),
    valid: standing.valid + valid,
    invalid: standing.invalid + verdicts.length - valid,
    rejected: standing.rejected + rejected,
    hours: addedTo(standing.hours, hourMs, hoursMax, verdicts, rejected, now),
    days: addedTo(standing.days, dayMs, daysMax, verdicts, rejected, now),
  };
}

/** A verdict that was counted late does not replace a newer one. */
function newerOf(last: LastVerdict | undefined, verdict: ValidationDocument): LastVerdict {
  if (last !== undefined && last.calculated_at > verdict.created_at) return last;
  return {
    score: verdict.score,
    confidence: verdict.confidence,
    is_valid: verdict.is_valid,
    output_hash: verdict.output_hash,
    calculated_at: verdict.created_at,
  };
}

const meanScore = (recent: readonly Counted[]): number =>
  roundCents(recent.reduce((sum, { score }) => sum + score, 0) / recent.length);

function addedTo(
  totals: readonly Totals[],
  spanMs: number,
  max: number,
  verdicts: readonly ValidationDocument[],
  rejected: number,
  now: Date,
): Totals[] {
  const byStart = new Map(totals.map((one) => [one.start.getTime(), one]));
  const add = (at: Date, change: Partial<Record<"valid" | "invalid" | "rejected" | "score_sum", number>>) => {
    const start = Math.floor(at.getTime() / spanMs) * spanMs;
    const { valid, invalid, rejected, score_sum } = byStart.get(start) ?? none;
    byStart.set(start, {
      start: new Date(start),
      valid: valid + (change.valid ?? 0),
      invalid: invalid + (change.invalid ?? 0),
      rejected: rejected + (change.rejected ?? 0),
      score_sum: score_sum + (change.score_sum ?? 0),
    });
  };
  for (const { created_at, score, is_valid } of verdicts) {
    const cents = Math.round(score * 100);
    add(created_at, is_valid ? { valid: 1, score_sum: cents } : { invalid: 1, score_sum: cents });
  }
  if (rejected > 0) add(now, { rejected });
  const newest = Math.max(...byStart.keys());
  return [...byStart.values()]
    .filter(({ start }) => start.getTime() > newest - max * spanMs)
    .sort((one, other) => one.start.getTime() - other.start.getTime());
}

const none = { valid: 0, invalid: 0, rejected: 0, score_sum: 0 };

/** Totals over a window, and its start: a whole hour, or a whole day for more than 48 hours. */
export function totalsOver(
  standings: readonly Pick<StandingDocument, "hours" | "days">[],
  windowMs: number,
  now: Date,
): Totals {
  const byHour = windowMs <= 48 * hourMs;
  const spanMs = byHour ? hourMs : dayMs;
  const start = (Math.floor(now.getTime() / spanMs) - Math.ceil(windowMs / spanMs)) * spanMs;
  const within = standings
    .flatMap(({ hours, days }) => (byHour ? hours : days))
    .filter((one) => one.start.getTime() >= start);
  const sum = (pick: (one: Totals) => number) => within.reduce((total, one) => total + pick(one), 0);
  return {
    start: new Date(start),
    valid: sum(({ valid }) => valid),
    invalid: sum(({ invalid }) => invalid),
    rejected: sum(({ rejected }) => rejected),
    score_sum: sum(({ score_sum }) => score_sum),
  };
}

/**
 * The best first: by mean score, then by valid proofs, then the newer id. Nodes without a counted verdict have no rank.
 */
export function ranked<T extends Pick<StandingDocument, "_id" | "mean_score" | "valid">>(standings: readonly T[]): T[] {
  return standings
    .filter(({ mean_score }) => mean_score !== undefined)
    .sort((a, b) => (b.mean_score ?? 0) - (a.mean_score ?? 0) || b.valid - a.valid || (a._id < b._id ? 1 : -1));
}
