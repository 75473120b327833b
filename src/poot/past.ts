// What is known about the nodes of a batch before it is judged.
import type { Clock } from "../clock.js";
import { eachOf } from "../task.js";
import type { PootRepository } from "./repository.js";
import type { Counted } from "./score.js";
import type { Proof, ValidationDocument } from "./verdict.js";

export interface Past {
  /** The verdicts that the node's reliability is computed from; grows with the batch. */
  history: readonly Counted[];
  /** The verdicts that spent nonces of this batch, by nonce. */
  readonly spent: ReadonlyMap<string, ValidationDocument>;
  /** Hashes of this batch's outputs that the node proved within the last 24 h; grows with the batch. */
  readonly proved: Set<string>;
}

/** Nodes that are asked about at the same time, and nonces or outputs of each node. */
const atOnce = 8;

export function createPasts({ repository, clock }: { readonly repository: PootRepository; readonly clock: Clock }) {
  /** Asks only one question when none is spent, as in most batches. */
  const spentAmong = async (nodeId: string, proofs: readonly Proof[]): Promise<Map<string, ValidationDocument>> => {
    const nonces = distinct(proofs.map(({ nonce }) => nonce));
    const spent = new Map<string, ValidationDocument>();
    if (!(await repository.hasSpent(nodeId, nonces))) return spent;
    await eachOf(nonces, atOnce, async (nonce) => {
      const spender = await repository.spenderOf(nodeId, nonce);
      if (spender !== null) spent.set(nonce, spender);
    });
    return spent;
  };

  const provedAmong = async (nodeId: string, proofs: readonly Proof[]): Promise<Set<string>> => {
    const hashes = distinct(proofs.map(({ outputHash }) => outputHash));
    const now = clock.now();
    const proved = new Set<string>();
    if (!(await repository.hasProved(nodeId, hashes, now))) return proved;
    await eachOf(hashes, atOnce, async (hash) => {
      if (await repository.hasProved(nodeId, [hash], now)) proved.add(hash);
    });
    return proved;
  };

  /** By node. */
  return async (entries: readonly { readonly proof: Proof }[]): Promise<Map<string, Past>> => {
    const byNode = Map.groupBy(entries, ({ proof }) => proof.nodeId);
    const standings = await repository.standingsOf([...byNode.keys()]);
    const pasts = new Map<string, Past>();
    await eachOf([...byNode], atOnce, async ([nodeId, own]) => {
      const proofs = own.map(({ proof }) => proof);
      const [spent, proved] = await Promise.all([spentAmong(nodeId, proofs), provedAmong(nodeId, proofs)]);
      pasts.set(nodeId, { history: standings.get(nodeId)?.recent ?? [], spent, proved });
    });
    return pasts;
  };
}

export const distinct = (texts: readonly string[]): string[] => [...new Set(texts)];
