// One heartbeat stream from the node's side: Hello, beats at the service's pace, commands, and the end.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationMs, type Timestamp, timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { Client } from "@connectrpc/connect";
import {
  type Ack,
  type Command,
  CommandStatus,
  type HardwareInfoSchema,
  type HeartbeatRequestSchema,
  type HeartbeatResponse,
  type NodeMetricsSchema,
  type NodeService,
  type NodeStatus,
  type Welcome,
} from "../../gen/lucid/node/v1/node_service_pb.js";
import type { Clock } from "../clock.js";
import { bounded, graceBounds, metricsBounds, paceBounds, reconnectBounds, waitingMax } from "./bounds.js";
import { createQueue } from "./queue.js";
import { watchForJump } from "./service-time.js";

type Request = MessageInitShape<typeof HeartbeatRequestSchema>;

export interface StreamParts {
  readonly nodes: Client<typeof NodeService>;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly hello: {
    readonly nodeId: string;
    readonly bootId: string;
    readonly agentVersion: string;
    readonly hardwareInfo?: MessageInitShape<typeof HardwareInfoSchema>;
  };
  readonly token: string;
  /**
   * Undefined, or an error, if the machine cannot be read now. It may take as long as it needs: no beat waits for it.
   */
  readonly sample: () => Promise<MessageInitShape<typeof NodeMetricsSchema> | undefined>;
  /** Runs a command. An error that it throws is reported as the command's failure. */
  readonly perform: (command: Command) => Promise<"done" | "unsupported">;
  /** Called with the service's time in an answer, and how long ago the agent sent the message that it answers. */
  readonly onServerTime: (serverTime: Date, roundTripMs: number) => void;
  readonly onWelcome: (welcome: Welcome) => void;
  readonly onAck: (ack: Ack) => void;
  readonly onDesired: (status: NodeStatus) => void;
}

/**
 * How a stream ended without an error: the service asked for a new one after that time (0 to 10 minutes), or just ended
 * it.
 */
export interface StreamEnd {
  readonly reconnectAfterMs: number | undefined;
}

/** When a message was sent, by the monotonic clock, and whether the wall clock has jumped since. */
interface Departure {
  readonly atMs: number;
  readonly hasJumped: () => boolean;
}
const departure = (clock: Clock): Departure => ({ atMs: clock.monotonicMs(), hasJumped: watchForJump(clock) });

const welcomeMs = 15_000;
const goodbyeMs = 2_000;
/** How long before a beat the machine is read, so that the sample is ready in time and recent. */
const sampleLeadMs = 3_000;

/**
 * Holds one stream until it ends. When `leaving` aborts, it sends Leave first. Throws the ConnectError that ended the
 * stream. Leaves a service that does not answer for interval + grace. Times from the service are kept within sane
 * bounds.
 */
export async function holdStream(parts: StreamParts, leaving: AbortSignal): Promise<StreamEnd> {
  const { clock, nodes } = parts;
  const giveUp = new AbortController();
  const outgoing = createQueue<Request>(waitingMax, () => giveUp.abort());
  const over = new AbortController();
  const state = { heardMs: clock.monotonicMs(), patienceMs: welcomeMs };
  let reconnectAfterMs: number | undefined;
  let welcomed = false;
  const hello = departure(clock);
  const beats = createBeats(parts, outgoing.push, over.signal);
  const leave = () => {
    outgoing.push({ message: { case: "leave", value: { reason: "agent stopped" } } });
    void clock.sleep(goodbyeMs, over.signal).then(() => giveUp.abort());
  };
  leaving.addEventListener("abort", leave, { once: true });
  if (leaving.aborted) leave();
  void watch(clock, state, giveUp, over.signal);
  outgoing.push({ message: { case: "hello", value: parts.hello } });

  const hearTime = (time: Timestamp | undefined, sent: Departure): void => {
    // After a suspend, an answer is older than the monotonic clock shows.
    if (time === undefined || sent.hasJumped()) return;
    parts.onServerTime(timestampDate(time), clock.monotonicMs() - sent.atMs);
  };
  const take = (response: HeartbeatResponse): void => {
    state.heardMs = clock.monotonicMs();
    const { message } = response;
    switch (message.case) {
      case "welcome":
        // A second Welcome would start a second sequence of beats.
        if (welcomed) return;
        welcomed = true;
        state.patienceMs =
          bounded(spanMs(message.value.heartbeatInterval), paceBounds) * 1.1 +
          bounded(spanMs(message.value.gracePeriod), graceBounds);
        hearTime(message.value.serverTime, hello);
        parts.onWelcome(message.value);
        parts.onDesired(message.value.desiredStatus);
        beats.begin(message.value);
        return;
      case "ack":
        // An Ack that answers no beat of this stream, or answers one twice, must not cause a beat.
        if (!beats.answers(message.value)) return;
        state.patienceMs = Math.max(
          state.patienceMs,
          bounded(spanMs(message.value.nextHeartbeatAfter), paceBounds) * 2,
        );
        hearTime(message.value.serverTime, beats.sent());
        parts.onAck(message.value);
        parts.onDesired(message.value.desiredStatus);
        beats.acknowledged(message.value);
        return;
      case "command":
        if (message.value.command.case === "collectMetrics") beats.collectNow();
        void answer(parts, message.value).then(outgoing.push);
        return;
      case "reconnect":
        reconnectAfterMs = bounded(spanMs(message.value.after), reconnectBounds);
        return;
      default:
        // A newer service may send messages that this agent does not know.
        return;
    }
  };

  try {
    const headers = { authorization: `Bearer ${parts.token}` };
    for await (const response of nodes.heartbeat(outgoing.items(), { headers, signal: giveUp.signal })) take(response);
    return { reconnectAfterMs };
  } finally {
    leaving.removeEventListener("abort", leave);
    over.abort();
    outgoing.close();
  }
}

/** Leaves a service that has been silent for longer than its own grace. */
async function watch(
  clock: Clock,
  state: { heardMs: number; patienceMs: number },
  giveUp: AbortController,
  over: AbortSignal,
): Promise<void> {
  while (!over.aborted) {
    const leftMs = state.heardMs + state.patienceMs - clock.monotonicMs();
    if (leftMs <= 0) return giveUp.abort();
    await clock.sleep(leftMs, over);
  }
}

async function answer(parts: StreamParts, command: Command): Promise<Request> {
  const { commandId } = command;
  const result = (status: CommandStatus, error = ""): Request => ({
    message: { case: "commandResult", value: { commandId, status, error: error.slice(0, 1000) } },
  });
  try {
    const done = await parts.perform(command);
    return result(done === "done" ? CommandStatus.OK : CommandStatus.UNSUPPORTED);
  } catch (error) {
    return result(CommandStatus.FAILED, String(error));
  }
}

/** Sends beats one at a time: the Ack of the last one says when the next is due. */
function createBeats(parts: StreamParts, push: (request: Request) => void, over: AbortSignal) {
  const { clock } = parts;
  let sequence = 0n;
  let answered = 0n;
  let sent = departure(clock);
  let metricsMs = 60_000;
  let sampledMs = Number.NEGATIVE_INFINITY;
  let sampling = false;
  let metrics: MessageInitShape<typeof NodeMetricsSchema> | undefined;

  /** One sample at a time, in parallel with the beats. If the machine cannot be read, the node is still alive. */
  const sampleIfDue = async (): Promise<void> => {
    if (sampling || clock.monotonicMs() - sampledMs < metricsMs) return;
    sampledMs = clock.monotonicMs();
    sampling = true;
    try {
      metrics = (await parts.sample().catch(() => undefined)) ?? metrics;
    } finally {
      sampling = false;
    }
  };
  const beat = (): void => {
    sequence++;
    sent = departure(clock);
    const sentAt = timestampFromDate(clock.now());
    push({ message: { case: "beat", value: { sequence, sentAt, ...(metrics === undefined ? {} : { metrics }) } } });
    metrics = undefined;
  };
  const beatAfter = async (ms: number): Promise<void> => {
    const leadMs = Math.min(ms, sampleLeadMs);
    await clock.sleep(ms - leadMs, over);
    if (over.aborted) return;
    void sampleIfDue();
    await clock.sleep(leadMs, over);
    if (!over.aborted) beat();
  };

  return {
    /**
     * The first beat comes after a random part of the interval, so that a fleet that reconnects together spreads out.
     */
    begin: (welcome: Welcome): void => {
      metricsMs = bounded(spanMs(welcome.metricsInterval), metricsBounds);
      void beatAfter(parts.random() * bounded(spanMs(welcome.heartbeatInterval), paceBounds));
    },
    /** Whether this is the first answer to the last beat. */
    answers: (ack: Ack): boolean => ack.sequence === sequence && answered < sequence,
    acknowledged: (ack: Ack): void => {
      answered = ack.sequence;
      void beatAfter(bounded(spanMs(ack.nextHeartbeatAfter), paceBounds));
    },
    /** When the last beat was sent. */
    sent: () => sent,
    collectNow: (): void => {
      sampledMs = Number.NEGATIVE_INFINITY;
    },
  };
}

export const spanMs = (span: Parameters<typeof durationMs>[0] | undefined): number =>
  span === undefined ? 0 : durationMs(span);
