// What a session is, what goes in and out of it, and what it changes of its node. Pure.
import type { Failure } from "../../failure.js";
import type { NodeId } from "../../ids.js";
import {
  answered,
  type ConnectivityState,
  configurationVersion,
  desiredStatus,
  fail,
  type Json,
  type NodeDocument,
  type Patch,
  type PendingCommand,
} from "../node.js";

export interface Sample {
  readonly cpuPercent: number;
  readonly memoryUsedBytes: bigint;
  readonly memoryTotalBytes: bigint;
  readonly diskUsedBytes: bigint;
  readonly diskTotalBytes: bigint;
  readonly networkRxBytes: bigint;
  readonly networkTxBytes: bigint;
}

export type Incoming =
  | { readonly kind: "beat"; readonly sequence: bigint; readonly sample: Sample | undefined }
  | { readonly kind: "leave"; readonly reason: string }
  | {
      readonly kind: "result";
      readonly commandId: string;
      readonly status: "ok" | "failed" | "unsupported";
      readonly error: string;
    };

export type DesiredStatus = ReturnType<typeof desiredStatus>;

export type SessionCommand = PendingCommand | { readonly commandId: string; readonly kind: "collect_metrics" };

export interface AckMessage {
  readonly kind: "ack";
  readonly sequence: bigint;
  readonly nextAfterMs: number;
  readonly desired: DesiredStatus;
}

export type Outgoing =
  | {
      readonly kind: "welcome";
      readonly sessionId: string;
      readonly epoch: number;
      readonly intervalMs: number;
      readonly desired: DesiredStatus;
    }
  | AckMessage
  | { readonly kind: "command"; readonly command: SessionCommand }
  | { readonly kind: "reconnect"; readonly afterMs: number; readonly reason: string };

/** What carries a session's answers: a stream, or nothing for a node that reports by unary calls. */
export interface Link {
  send(message: Outgoing): void;
  /** Ends the stream once everything sent is out: with OK, or with the failure. */
  end(failure?: Failure): void;
  /** Ends the stream with OK, and its connection too, so that the next stream has to dial again. */
  endConnection(): void;
  /** Since when a message has waited for a reader that does not read; undefined when none waits. */
  stalledSinceMs(): number | undefined;
}

export interface Bearer {
  readonly jti: string;
  readonly expiresAt: Date;
  readonly issuedAt: Date;
  readonly enrollmentEpoch: number | undefined;
}

export interface Opening {
  readonly nodeId: NodeId;
  readonly bootId: string;
  /** Undefined leaves what is known as it is. */
  readonly agentVersion?: string;
  readonly hardwareInfo?: Json;
  readonly bearer: Bearer;
  /** Whether the call that asks for the session is over; nothing is written for such a call. */
  readonly isGone: () => boolean;
}

/** A node as this replica knows it. The session outlives its stream: silence is judged with or without a stream. */
export interface Session {
  readonly nodeId: NodeId;
  readonly sessionId: string;
  readonly epoch: number;
  readonly bootId: string;
  /** The enrolment of the node under which the session was opened. */
  readonly enrollmentEpoch: number;
  /**
   * When the node's enrolment had last been reset at that time, in milliseconds since 1970; undefined if it never was.
   */
  readonly enrollmentResetMs: number | undefined;
  readonly jti: string;
  /** The node reports by unary calls, which may reach another replica next: the leader judges its silence. */
  readonly unary: boolean;
  /** The newest version of the node that the session has been told. */
  version: number;
  link: Link | undefined;
  /** When the stream is to be renewed: its lifetime, or the token's end if sooner. */
  readonly renewAtMs: number;
  connectivity: ConnectivityState;
  desired: DesiredStatus;
  /** Time to the next beat as last told. */
  intervalMs: number;
  lastSequence: bigint;
  /** Monotonic; -Infinity when not heard by this process. */
  lastHeardMs: number;
  /** Monotonic; the node is presumed alive until then, whatever was heard, because its whole pool fell silent. */
  presumedMs: number;
  /** Monotonic; the last beat that is written. A beat that follows within half the interval is not. */
  lastCountedMs: number;
  /** The same moment on the wall clock, as stored in last_heartbeat. */
  lastHeardAt: Date;
  lastSampleMs: number;
  /** Commands that its stream has been sent; undefined before Welcome, when none may be sent. */
  told: ReadonlySet<string> | undefined;
}

export type Beat = Extract<Incoming, { kind: "beat" }>;
export type Result = Extract<Incoming, { kind: "result" }>;

/**
 * A session made from its node's document, as for a session whose opening was never acknowledged. Its node counts as
 * heard now.
 */
export const presumed = (node: NodeDocument, intervalMs: number, nowMs: number): Session => ({
  nodeId: node._id as NodeId,
  sessionId: "",
  epoch: node.session_epoch,
  bootId: node.session_boot_id ?? "",
  enrollmentEpoch: node.enrollment_epoch ?? 0,
  enrollmentResetMs: node.enrollment_reset_at?.getTime(),
  jti: "",
  unary: false,
  version: node.version,
  link: undefined,
  renewAtMs: Number.POSITIVE_INFINITY,
  connectivity: node.connectivity,
  desired: desiredStatus(node.status),
  intervalMs,
  lastSequence: 0n,
  lastHeardMs: nowMs,
  presumedMs: Number.NEGATIVE_INFINITY,
  lastCountedMs: Number.NEGATIVE_INFINITY,
  lastHeardAt: node.last_heartbeat,
  lastSampleMs: Number.NEGATIVE_INFINITY,
  told: undefined,
});

/**
 * Whether the node's enrolment was reset since the session was opened. A former version leaves the number of the
 * enrolment and the session's epoch as they are and writes only another date. A document older than what the session
 * was told has the date of an earlier reset and says nothing.
 */
export const wasReset = (
  node: NodeDocument,
  session: Pick<Session, "enrollmentEpoch" | "enrollmentResetMs" | "version">,
): boolean =>
  (node.enrollment_epoch ?? 0) > session.enrollmentEpoch ||
  (node.version > session.version && node.enrollment_reset_at?.getTime() !== session.enrollmentResetMs);

/**
 * What opening a session changes: the node is connected, and may have reported something new about itself. Undefined
 * for a node without news, and for a node that was banned or opened a newer session meanwhile.
 */
function connected(node: NodeDocument, opening: Opening, epoch: number): Patch | undefined {
  if (node.banned || node.session_epoch !== epoch) return undefined;
  const { agentVersion, hardwareInfo } = opening;
  const connects = node.connectivity !== "connected";
  const set: Partial<NodeDocument> = {
    ...(connects ? { connectivity: "connected" } : {}),
    ...(agentVersion === undefined || agentVersion === node.agent_version ? {} : { agent_version: agentVersion }),
    ...(hardwareInfo === undefined || sameJson(hardwareInfo, node.hardware_info)
      ? {}
      : { hardware_info: hardwareInfo }),
  };
  if (Object.keys(set).length === 0) return undefined;
  const event = connects
    ? ({ type: "connectivity", reason: "connected", actor: node._id } as const)
    : ({ type: "updated", reason: "agent reported", actor: node._id } as const);
  return { set, unset: connects ? ["silent_since"] : [], event };
}

const duplicateIdentity = "duplicate identity";

/** Like `connected`, but a node whose identity two machines seem to share goes into ERROR by the same write. */
export function openingPatch(
  node: NodeDocument,
  opening: Opening,
  { epoch }: Pick<Session, "epoch">,
  duplicate: boolean,
): Patch | undefined {
  const patch = connected(node, opening, epoch);
  if (!duplicate || node.status_reason === duplicateIdentity) return patch;
  const failed = fail(duplicateIdentity);
  return {
    ...failed,
    set: { ...patch?.set, ...failed.set },
    unset: [...(patch?.unset ?? []), ...(failed.unset ?? [])],
  };
}

const sameJson = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);

/**
 * A beat brings back a node that was given up, unless a newer session has taken over. The same write dates the beat: a
 * judge that saw one without the other would give the node up again.
 */
export const heardAgain = (node: NodeDocument, epoch: number, at: Date): Patch | undefined =>
  node.session_epoch !== epoch || node.connectivity === "connected" || node.banned
    ? undefined
    : {
        set: { connectivity: "connected", last_heartbeat: at },
        unset: ["silent_since"],
        event: { type: "connectivity", reason: "heard again", actor: node._id },
        ofEpoch: epoch,
      };

/** What silence changes of a node: it is DISCONNECTED, later LOST. */
export const silenced = (to: "disconnected" | "lost", now: Date): Patch =>
  to === "disconnected"
    ? {
        set: { connectivity: to, silent_since: now },
        event: { type: "connectivity", reason: "silent", actor: "system" },
      }
    : {
        set: { connectivity: to },
        unset: ["silent_since"],
        event: { type: "connectivity", reason: "silent for too long", actor: "system" },
      };

/** A clean goodbye, unless a newer session has taken over. */
export function left(node: NodeDocument, epoch: number, reason: string): Patch | undefined {
  if (node.session_epoch !== epoch || node.connectivity === "disconnected") return undefined;
  const event = { type: "connectivity", reason: reason === "" ? "left" : `left: ${reason}`, actor: node._id } as const;
  return { set: { connectivity: "disconnected" }, event, ofEpoch: epoch };
}

/** The id of the command that asks for a sample. */
export const sampleCommand = (epoch: number): string => `met_${epoch}`;

/**
 * Whether this answers that command. The sample comes with a beat and the node stays as it is, so later beats need not
 * wait.
 */
export const ofSample = ({ commandId }: Result): boolean => commandId.startsWith("met_");

/**
 * What the result of a command changes. An agent that does not support the command cannot carry it out, so we treat it
 * as done.
 */
export function resulted(node: NodeDocument, result: Result, now: Date): Patch | undefined {
  const { commandId, error } = result;
  const ok = result.status !== "failed";
  const configuration = configurationVersion(commandId);
  if (configuration === undefined) return answered(node, { commandId, ok, error }, now);
  if (node.configuration_applied >= configuration || configuration > node.configuration_version) return undefined;
  const reason = ok ? "configuration taken over" : `configuration refused: ${error}`;
  return { set: { configuration_applied: configuration }, event: { type: "updated", reason, actor: node._id } };
}
