// What carries heartbeats: the bidirectional stream, and the unary form. Sessions do not know which of the two it is.
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type {
  HeartbeatRequest,
  NodeService,
  ReportHeartbeatRequest,
} from "../../../gen/lucid/node/v1/node_service_pb.js";
import type { Caller } from "../../access/caller.js";
import type { Clock } from "../../clock.js";
import { malformed, notAllowed } from "../../failure.js";
import type { NodeId } from "../../ids.js";
import { callerOf, callOf } from "../../rpc/context.js";
import { hardwareToJson } from "../wire.js";
import { createOutbox } from "./outbox.js";
import type { Link, Opening, Session } from "./session.js";
import type { Sessions } from "./sessions.js";
import type { SkewWatch } from "./skew.js";
import { ackToWire, commandToWire, toIncoming, toResult, toSample, toWire } from "./wire.js";

/** A stream that has not said Hello after this long is ended. */
const helloMs = 10_000;
/** A stream that is to end gives its reader this long to take what was sent before. */
const lingerMs = 5_000;

interface StreamParts {
  readonly sessions: Sessions;
  readonly clock: Clock;
  readonly skew: SkewWatch;
  readonly unknownMessages: { inc(): void };
  readonly settings: { readonly graceMs: number; readonly metricsIntervalMs: number };
}

/** What a stream holds once it has said Hello. */
interface Held {
  session?: Session;
  ended: boolean;
}

export function heartbeatHandlers(
  parts: StreamParts,
): Pick<ServiceImpl<typeof NodeService>, "heartbeat" | "reportHeartbeat"> {
  const timing = { ...parts.settings, now: parts.clock.now };
  return {
    heartbeat: async function* (requests: AsyncIterable<HeartbeatRequest>, context: HandlerContext) {
      const release = parts.sessions.enter(callerOf(context).nodeId ?? "");
      const outbox = createOutbox(parts.clock);
      const over = new AbortController();
      let ending = false;
      // While a reader does not read, the answers wait in the middle of a message. Such a stream is ended from outside,
      // or it would hold its place for as long as its connection lives.
      const end = (error?: unknown): void => {
        outbox.end(error);
        if (ending) return;
        ending = true;
        void parts.clock.sleep(lingerMs, over.signal).then(() => {
          if (!over.signal.aborted) callOf(context).peer.resetStream();
        });
      };
      const link: Link = {
        send: outbox.push,
        end,
        stalledSinceMs: outbox.stalledSinceMs,
        endConnection: () => {
          end();
          callOf(context).peer.closeConnection();
        },
      };
      const held: Held = { ended: false };
      const abort = () => end(context.signal.reason);
      context.signal.addEventListener("abort", abort, { once: true });
      if (context.signal.aborted) abort();
      // This runs beside the answers and is not waited for: the iteration of requests ends only with the stream itself.
      receive(parts, requests, context, link, held).then(() => end(), end);
      try {
        for await (const message of outbox.messages()) yield toWire(message, timing);
      } finally {
        held.ended = true;
        release();
        outbox.end();
        over.abort();
        context.signal.removeEventListener("abort", abort);
        if (held.session !== undefined) parts.sessions.closed(held.session, link);
      }
    },

    reportHeartbeat: async (request: ReportHeartbeatRequest, context: HandlerContext) => {
      const caller = callerOf(context);
      const { beat } = request;
      if (beat === undefined) throw malformed({ field: "beat", description: "is required" });
      const { ack, epoch, commands } = await parts.sessions.report(
        {
          nodeId: requireSelf(caller, request.nodeId),
          bootId: request.bootId,
          bearer: caller,
          isGone: () => context.signal.aborted,
        },
        request.sessionEpoch === undefined ? undefined : Number(request.sessionEpoch),
        { kind: "beat", sequence: beat.sequence, sample: toSample(beat.metrics) },
        request.commandResults.map(toResult),
      );
      if (beat.sentAt !== undefined) parts.skew.heard({ nodeId: request.nodeId, epoch }, timestampMs(beat.sentAt));
      return { ack: ackToWire(ack, timing), sessionEpoch: BigInt(epoch), commands: commands.map(commandToWire) };
    },
  };
}

/** Takes Hello first, within its time; then each message, one after the other. */
async function receive(
  parts: StreamParts,
  requests: AsyncIterable<HeartbeatRequest>,
  context: HandlerContext,
  link: Link,
  held: Held,
): Promise<void> {
  const greeted = new AbortController();
  void parts.clock.sleep(helloMs, AbortSignal.any([greeted.signal, context.signal])).then(() => {
    if (!greeted.signal.aborted && !context.signal.aborted) link.end(helloMissing());
  });
  try {
    for await (const { message } of requests) {
      if (message.case === undefined) {
        parts.unknownMessages.inc();
      } else if (message.case === "hello") {
        if (held.session !== undefined) throw malformed({ field: "hello", description: "may come only once" });
        greeted.abort();
        held.session = await parts.sessions.openStream(opening(message.value, context, held), link);
        // The stream may have ended while its session was opened.
        if (held.ended) parts.sessions.closed(held.session, link);
      } else {
        if (held.session === undefined) throw helloMissing();
        if (message.case === "beat" && message.value.sentAt !== undefined) {
          parts.skew.heard(held.session, timestampMs(message.value.sentAt));
        }
        const incoming = toIncoming(message);
        if (incoming !== undefined) await parts.sessions.receive(held.session, incoming);
      }
    }
  } finally {
    greeted.abort();
  }
}

const helloMissing = () => malformed({ field: "hello", description: "must be the stream's first message" });

function opening(
  hello: Extract<HeartbeatRequest["message"], { case: "hello" }>["value"],
  context: HandlerContext,
  held: Held,
): Opening {
  const caller = callerOf(context);
  return {
    nodeId: requireSelf(caller, hello.nodeId),
    bootId: hello.bootId,
    agentVersion: hello.agentVersion,
    ...(hello.hardwareInfo === undefined ? {} : { hardwareInfo: hardwareToJson(hello.hardwareInfo) }),
    bearer: caller,
    isGone: () => held.ended || context.signal.aborted,
  };
}

/** @throws Failure 4031 when a node's token speaks for another node */
function requireSelf(caller: Caller, nodeId: string): NodeId {
  if (caller.nodeId !== nodeId) throw notAllowed("A node's token speaks for that node only");
  return nodeId as NodeId;
}
