// What goes in and out of a session, in the contract's messages: plain translation, no decisions.
import { fromJson, type JsonValue, type MessageInitShape } from "@bufbuild/protobuf";
import { type Duration, durationFromMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type CommandSchema,
  CommandStatus,
  type HeartbeatRequest,
  type HeartbeatResponseSchema,
  NodeConfigurationSchema,
  type NodeMetrics,
  type NodeStatus,
} from "../../../gen/lucid/node/v1/node_service_pb.js";
import { statusToWire } from "../wire.js";
import type { DesiredStatus, Incoming, Outgoing, Sample, SessionCommand } from "./session.js";

/** Undefined for a kind of message that a newer peer sends and this version does not know. */
export function toIncoming(message: Exclude<HeartbeatRequest["message"], { case: "hello" }>): Incoming | undefined {
  switch (message.case) {
    case "beat":
      return { kind: "beat", sequence: message.value.sequence, sample: toSample(message.value.metrics) };
    case "leave":
      return { kind: "leave", reason: message.value.reason };
    case "commandResult":
      return toResult(message.value);
    default:
      return undefined;
  }
}

export function toResult(message: { commandId: string; status: CommandStatus; error: string }) {
  const status =
    message.status === CommandStatus.FAILED
      ? "failed"
      : message.status === CommandStatus.UNSUPPORTED
        ? "unsupported"
        : "ok";
  return { kind: "result", commandId: message.commandId, status, error: message.error } as const;
}

export const toSample = (metrics: NodeMetrics | undefined): Sample | undefined => metrics;

const desiredToWire = (desired: DesiredStatus): NodeStatus => statusToWire[desired];

const ms = (value: number): Duration => durationFromMs(value);

export interface WireTiming {
  readonly graceMs: number;
  readonly metricsIntervalMs: number;
  readonly now: () => Date;
}

export const ackToWire = (message: Extract<Outgoing, { kind: "ack" }>, timing: WireTiming) => ({
  sequence: message.sequence,
  nextHeartbeatAfter: ms(message.nextAfterMs),
  serverTime: timestampFromDate(timing.now()),
  desiredStatus: desiredToWire(message.desired),
});

export function commandToWire(command: SessionCommand): MessageInitShape<typeof CommandSchema> {
  const { commandId } = command;
  switch (command.kind) {
    case "start":
      return { commandId, command: { case: "start", value: {} } };
    case "stop":
      return { commandId, command: { case: "stop", value: {} } };
    case "restart":
      return { commandId, command: { case: "restart", value: {} } };
    case "collect_metrics":
      return { commandId, command: { case: "collectMetrics", value: {} } };
    case "update_configuration": {
      const configuration = fromJson(NodeConfigurationSchema, command.configuration as JsonValue);
      return { commandId, command: { case: "updateConfiguration", value: { configuration } } };
    }
    default:
      return command satisfies never;
  }
}

export function toWire(message: Outgoing, timing: WireTiming): MessageInitShape<typeof HeartbeatResponseSchema> {
  switch (message.kind) {
    case "ack":
      return { message: { case: "ack", value: ackToWire(message, timing) } };
    case "command":
      return { message: { case: "command", value: commandToWire(message.command) } };
    case "reconnect":
      return { message: { case: "reconnect", value: { after: ms(message.afterMs), reason: message.reason } } };
    case "welcome":
      return {
        message: {
          case: "welcome",
          value: {
            sessionId: message.sessionId,
            sessionEpoch: BigInt(message.epoch),
            heartbeatInterval: ms(message.intervalMs),
            gracePeriod: ms(timing.graceMs),
            metricsInterval: ms(timing.metricsIntervalMs),
            serverTime: timestampFromDate(timing.now()),
            desiredStatus: desiredToWire(message.desired),
            capabilities: ["commands", "reconnect"],
          },
        },
      };
    default:
      return message satisfies never;
  }
}
