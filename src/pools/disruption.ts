// Mass failure: a pool that falls silent as a whole is more likely cut off than dead. The leader marks the pool, so
// that nobody acts on the silence and none of its nodes is declared LOST meanwhile.
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
/** An answer about a pool is kept this long for all callers. */
const rememberedMs = 5000;

export function createDisruption(parts: {
  readonly pools: PoolRepository;
  readonly nodes: NodeRepository;
  readonly leadership: () => Leadership | undefined;
  readonly clock: Clock;
  /** Silence after which a node is LOST. */
  readonly lostAfterMs: number;
  /** How many pools this replica, as the leader, has found disrupted; 0 when it does not lead. */
  readonly gauge: { set(value: number): void };
  readonly log: Pick<Log, "info" | "warn">;
}) {
  const { pools, nodes, clock, log } = parts;
  /** Pools whose members have come or gone since the last turn. */
  const suspects = new Set<string>();
  /** The pools that are marked as disrupted in the store. */
  let disrupted: ReadonlySet<string> = new Set();
  /** Pools that bear this leader's fence, so that no write of an older leader can change them any more. */
  const fenced = new Set<string>();
  const withheld = new Map<string, { readonly atMs: number; readonly answer: Promise<number | undefined> }>();
  let token: number | undefined;

  /** Takes in what a leader cannot know from the log's tail: the state from before it led. */
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
    // The mark may be there already. The assessment is this leader's from now on all the same.
    if (!written) await pools.claim(poolId, leadership.token);
    fenced.add(poolId);
    if (!written) return;
    const changed = new Set(disrupted);
    if (found) changed.add(poolId);
    else changed.delete(poolId);
    disrupted = changed;
    const context = { pool_id: poolId, nodes: members.length };
    if (found) log.warn("A pool fell silent as a whole; none of its nodes is declared LOST", context);
    else log.info("A pool is heard again", context);
  };

  /** The marks are read, not remembered, because an older leader may have written late. */
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
      // Taken out first: a change during the assessment makes the pool a suspect again.
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
    // The mark comes a little later than the silence.
    if (isDisrupted(await nodes.membersOf(poolId))) return 0;
    const recoveredMs = ago(pool?.recovered_at);
    return recoveredMs < parts.lostAfterMs ? Math.max(0, recoveredMs) : undefined;
  };

  return {
    task: turns({ clock, everyMs: turnMs, turn, away }).task,

    /** Follows the log. A node that is heard again matters only to a pool that was disrupted. */
    heard: ({ entries }: Chunk): void => {
      for (const { type, connectivity, pool_id } of entries) {
        if (pool_id === undefined || type !== "connectivity") continue;
        if (connectivity === "disconnected" || disrupted.has(pool_id)) suspects.add(pool_id);
      }
    },

    /**
     * Milliseconds since the pool recovered; 0 while it is disrupted; undefined when LOST need not be withheld. After a
     * recovery each node gets its whole time again.
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
