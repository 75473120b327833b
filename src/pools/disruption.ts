// Mass failure: a pool that falls silent as one is likelier cut off than dead. The leader marks it, so that nobody acts on
// the silence, and no node of it is declared LOST meanwhile.
import type { Clock } from "../clock.js";
import type { Chunk } from "../nodes/history/feed.js";
import type { NodeRepository } from "../nodes/repository.js";
import type { Leadership } from "../replicas/lease.js";
import { pages } from "../storage/pages.js";
import { type Next, outage, turns } from "../task.js";
import type { Log } from "../telemetry/log.js";
import { disruptionMsMax, isDisrupted } from "./pool.js";
import type { PoolRepository } from "./repository.js";

export type Disruption = ReturnType<typeof createDisruption>;

const turnMs = 1000;
/** A pool is looked at once for all that ask within this time. */
const rememberedMs = 5000;

export function createDisruption(parts: {
  readonly pools: PoolRepository;
  readonly nodes: NodeRepository;
  readonly leadership: () => Leadership | undefined;
  readonly clock: Clock;
  /** Silence after which a node is LOST. */
  readonly lostAfterMs: number;
  /** How many pools this replica, leading, has found disrupted; 0 when it does not lead. */
  readonly gauge: { set(value: number): void };
  readonly log: Pick<Log, "info" | "warn">;
}) {
  const { pools, nodes, clock, log } = parts;
  /** Pools whose members have come or gone since the last turn. */
  const suspects = new Set<string>();
  /** As they are marked in the store. */
  let disrupted: ReadonlySet<string> = new Set();
  /** Pools that bear this leader's fence: no write of an older one lands on them any more. */
  const fenced = new Set<string>();
  const withheld = new Map<string, { readonly atMs: number; readonly answer: Promise<number | undefined> }>();
  let token: number | undefined;

  /** What a leader cannot know from the log's tail: how things stood before it led. */
  const begin = async (leadership: Leadership): Promise<void> => {
    if (token === leadership.token) return;
    fenced.clear();
    for (const { _id } of await pools.disrupted()) suspects.add(_id);
    for await (const silent of pages((after) => nodes.byConnectivity("disconnected", after))) {
      for (const { pool_id } of silent) if (pool_id !== undefined) suspects.add(pool_id);
    }
    token = leadership.token;
  };

  const assess = async (poolId: string, leadership: Leadership): Promise<void> => {
    const members = await nodes.membersOf(poolId);
    const found = isDisrupted(members);
    if (!leadership.holds() || (found === disrupted.has(poolId) && fenced.has(poolId))) return;
    const written = await pools.setDisrupted(poolId, found, clock.now(), leadership.token);
    // It may be so already: then the assessment is this leader's from now on all the same.
    if (!written) await pools.claim(poolId, leadership.token);
    fenced.add(poolId);
    if (!written) return;
    const changed = new Set(disrupted);
    if (found) changed.add(poolId);
    else changed.delete(poolId);
    disrupted = changed;
    const context = { pool_id: poolId, nodes: members.length };
    if (found) log.warn("A pool fell silent as one; nothing is done about its nodes", context);
    else log.info("A pool is heard again", context);
  };

  /** An older leader may have written late: what is marked is read, not remembered. */
  const readMarks = async (): Promise<void> => {
    const marked = new Set((await pools.disrupted()).map(({ _id }) => _id));
    const changed = [...marked, ...disrupted].filter((id) => marked.has(id) !== disrupted.has(id));
    for (const id of changed) suspects.add(id);
    disrupted = marked;
  };

  const assessSuspects = async (leadership: Leadership): Promise<void> => {
    await begin(leadership);
    await readMarks();
    for (const poolId of [...suspects]) {
      // Taken out first: what changes while it is looked at makes it suspect again.
      suspects.delete(poolId);
      try {
        await assess(poolId, leadership);
      } catch (error) {
        suspects.add(poolId);
        throw error;
      }
    }
    parts.gauge.set(disrupted.size);
  };

  const turn = async (): Promise<Next> => {
    const leadership = parts.leadership();
    if (leadership !== undefined) await assessSuspects(leadership);
    else parts.gauge.set(0);
    return leadership === undefined ? "idle" : undefined;
  };
  const away = outage({
    log,
    began: "Silent pools are not looked for now",
    ended: "Silent pools are looked for again",
  });

  const look = async (poolId: string): Promise<number | undefined> => {
    const pool = await pools.find(poolId);
    const ago = (date: Date | undefined) => clock.now().getTime() - (date?.getTime() ?? Number.NEGATIVE_INFINITY);
    if (pool?.disrupted_since !== undefined) return ago(pool.disrupted_since) > disruptionMsMax ? undefined : 0;
    // The mark lags a little behind the silence.
    if (isDisrupted(await nodes.membersOf(poolId))) return 0;
    const recoveredMs = ago(pool?.recovered_at);
    return recoveredMs < parts.lostAfterMs ? Math.max(0, recoveredMs) : undefined;
  };

  return {
    task: turns({ clock, everyMs: turnMs, turn, away }).task,

    /** Follows the log. Nodes that are heard again concern only pools that were disrupted. */
    heard: ({ entries }: Chunk): void => {
      for (const { type, connectivity, pool_id } of entries) {
        if (pool_id === undefined || type !== "connectivity") continue;
        if (connectivity === "disconnected" || disrupted.has(pool_id)) suspects.add(pool_id);
      }
    },

    /**
     * How long ago the silence of that pool's nodes began to mean something: 0 while it is disrupted, the time since it was
     * heard again until each of its nodes has had its whole time anew. Undefined when there is nothing to withhold.
     */
    withholdsLoss: (poolId: string): Promise<number | undefined> => {
      const nowMs = clock.monotonicMs();
      const known = withheld.get(poolId);
      if (known !== undefined && nowMs - known.atMs < rememberedMs) return known.answer;
      for (const [id, { atMs }] of withheld) if (nowMs - atMs >= rememberedMs) withheld.delete(id);
      // A failure must not be remembered as the answer.
      const answer = look(poolId).catch((error: unknown) => {
        withheld.delete(poolId);
        throw error;
      });
      withheld.set(poolId, { atMs: nowMs, answer });
      return answer;
    },
  };
}
