// A watcher of nodes. It keeps all that it has heard; a test can cut it off and resume it.
import { ConnectError } from "@connectrpc/connect";
import type { WatchNodesResponse } from "../../../gen/lucid/node/v1/node_service_pb.js";
import { until, within } from "../world/until.js";
import type { Clients } from "../world/world.js";
import { connectivityName, statusName } from "./look.js";

export interface Watcher extends Disposable {
  readonly received: readonly WatchNodesResponse[];
  /** What came after snapshot_end, or after the token of a resumed watch: "node_1 2 ACTIVE CONNECTED", "-node_1". */
  readonly changes: readonly string[];
  /** What came before snapshot_end. */
  readonly snapshot: readonly string[];
  /** The last token that came. */
  readonly token: string;
  untilSnapshot(): Promise<void>;
  untilChanges(count: number): Promise<void>;
  cancel(): void;
  /** Waits for the end; undefined when the stream ended with OK. */
  ended(limitMs?: number): Promise<ConnectError | undefined>;
}

export function watchNodes(
  { nodes }: Pick<Clients, "nodes">,
  request: { readonly poolId?: string; readonly nodeIds?: string[]; readonly resumeToken?: string } = {},
): Watcher {
  const control = new AbortController();
  const received: WatchNodesResponse[] = [];
  const read = async () => {
    for await (const message of nodes.watchNodes(request, { signal: control.signal })) received.push(message);
  };
  const done = read().then(
    () => undefined,
    (error: unknown) => ConnectError.from(error),
  );
  let end: { readonly error: ConnectError | undefined } | undefined;
  void done.then((error) => {
    end = { error };
  });
  const endOfSnapshot = () => received.findIndex(({ event }) => event.case === "snapshotEnd");
  const wordsFrom = (from: number, to?: number) => received.slice(from, to).flatMap(wordOf);
  const changes = () => {
    if (request.resumeToken !== undefined) return wordsFrom(0);
    return endOfSnapshot() < 0 ? [] : wordsFrom(endOfSnapshot());
  };
  const untilOpen = async (holds: () => boolean, what: string) => {
    await until(() => holds() || end !== undefined, what);
    if (!holds()) throw end?.error ?? new Error(`the watch ended OK before ${what}`);
  };
  return {
    received,
    get changes() {
      return changes();
    },
    get snapshot() {
      return wordsFrom(0, Math.max(0, endOfSnapshot()));
    },
    get token() {
      return received.findLast(({ resumeToken }) => resumeToken !== "")?.resumeToken ?? request.resumeToken ?? "";
    },
    untilSnapshot: () => untilOpen(() => endOfSnapshot() >= 0, "the snapshot is complete"),
    untilChanges: (count) => untilOpen(() => changes().length >= count, `${count} changes have come`),
    cancel: () => control.abort(),
    ended: (limitMs) => within(done, "the watch ends", limitMs),
    [Symbol.dispose]: () => control.abort(),
  };
}

function wordOf({ event }: WatchNodesResponse): string[] {
  if (event.case === "removed") return [`-${event.value.nodeId}`];
  if (event.case !== "upserted") return [];
  const { nodeId, version, status, connectivity } = event.value;
  return [`${nodeId} ${version} ${statusName(status)} ${connectivityName(connectivity)}`];
}
