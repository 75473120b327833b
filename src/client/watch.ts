// A watch without an end: after a restart, a broken connection or being too slow, it resumes after the last message
// received, on any replica.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import type {
  NodeService,
  WatchNodesRequestSchema,
  WatchNodesResponse,
} from "../../gen/lucid/node/v1/node_service_pb.js";
import { type Clock, systemClock, systemRandom } from "../clock.js";
import { retryAfterMs, retryReason } from "./errors.js";
import { pauseMs } from "./pause.js";

export interface WatchOptions {
  /** Ends the watch, without an error. */
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
  /** In [0, 1). */
  readonly random?: () => number;
}

const backoffMinMs = 1_000;
const backoffMaxMs = 30_000;

/**
 * The messages of WatchNodes, without an end. Each change arrives once. After an interruption longer than the log
 * covers (30 days), a new snapshot follows: upserts and then snapshot_end. An interruption during a snapshot restarts
 * the snapshot too.
 * @throws ConnectError for errors that waiting does not fix, such as missing permission
 */
export async function* watchNodes(
  nodes: Pick<Client<typeof NodeService>, "watchNodes">,
  request: MessageInitShape<typeof WatchNodesRequestSchema> = {},
  { signal = new AbortController().signal, clock = systemClock, random = systemRandom }: WatchOptions = {},
): AsyncGenerator<WatchNodesResponse, void, undefined> {
  let { resumeToken = "" } = request;
  let failures = 0;
  let refused = false;
  while (!signal.aborted) {
    // For this attempt only: without it, a caller that stops reading would leave the call open.
    const over = new AbortController();
    try {
      const options = { signal: AbortSignal.any([signal, over.signal]) };
      for await (const message of nodes.watchNodes({ ...request, resumeToken }, options)) {
        if (message.resumeToken !== "") {
          resumeToken = message.resumeToken;
          failures = 0;
          refused = false;
        }
        yield message;
      }
    } catch (error) {
      if (signal.aborted) return;
      const { code } = ConnectError.from(error);
      if (code === Code.OutOfRange) resumeToken = "";
      // The client has already renewed its token, if it can.
      else if (code === Code.Unauthenticated && !refused) refused = true;
      else if (!isCut(error)) throw error;
      const backoffMs = random() * Math.min(backoffMaxMs, backoffMinMs * 2 ** failures++);
      await clock.sleep(pauseMs(retryAfterMs(error), 0, random()) + backoffMs, signal);
    } finally {
      over.abort();
    }
  }
}

/** A watch has no deadline. If its caller sets one, it ends the watch. */
const isCut = (error: unknown): boolean => ![undefined, "late"].includes(retryReason(error));
