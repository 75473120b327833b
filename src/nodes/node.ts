// A node: what is kept of it, the states it can be in and the moves between them. Pure.

import type { NodeRole } from "../access/permission.js";
import { wrongStatus } from "../failure.js";

export type NodeStatus = "inactive" | "starting" | "active" | "stopping" | "maintenance" | "error";
export type ConnectivityState = "never_connected" | "connected" | "disconnected" | "lost";
export type EventType = "created" | "status" | "connectivity" | "updated" | "banned" | "unbanned" | "deleted";
export type Operation = "start" | "stop" | "restart";

/** A message of the contract in its JSON form, kept as the caller gave it. */
export type Json = Readonly<Record<string, unknown>>;

/** A change that is not in the log yet. `change` counts the node's changes from 1. */
export interface Change {
  readonly change: number;
  readonly type: EventType;
  readonly status: NodeStatus;
  readonly connectivity: ConnectivityState;
  readonly reason: string;
  readonly actor: string;
  readonly version: number;
  readonly at: Date;
  /** The pool the node is in after the change, and the pool that the change took it out of. */
  readonly pool_id?: string;
  readonly left_pool_id?: string;
}

/** One opening of a session. */
export interface Boot {
  readonly boot_id: string;
  readonly at: Date;
}

/** A start, stop or restart under way. Any process that finds it past its deadline ends it. */
export interface Transition {
  readonly operation_id: string;
  readonly operation: Operation;
  readonly deadline: Date;
}

/** Resources of a node that are set aside. 0 means nothing of that resource. */
export interface Allocation {
  readonly allocation_id: string;
  readonly cpu_percent: number;
  readonly memory_bytes: number;
  readonly disk_bytes: number;
  readonly network_mbps: number;
  readonly created_at: Date;
  /** Absent: the allocation lasts until it is released. */
  readonly expires_at?: Date;
}

/** Usage thresholds of a node's alerts, in percent; an absent field means the default. */
export interface ThresholdSettings {
  readonly cpu_warn_percent?: number;
  readonly cpu_critical_percent?: number;
  readonly memory_warn_percent?: number;
  readonly memory_critical_percent?: number;
  readonly disk_warn_percent?: number;
  readonly disk_critical_percent?: number;
}

/** The stored document of a node. Fields that lists are ordered by are never missing. */
export interface NodeDocument {
  readonly _id: string;
  readonly name: string;
  /** The space the name is unique in: the pool's id, or "-" without a pool; absent once deleted. */
  readonly name_scope?: string;
  readonly status: NodeStatus;
  readonly status_reason: string;
  readonly node_type: NodeRole;
  readonly pool_id?: string;
  /**
   * The slot that the node holds in its pool, 1 to max_nodes. It is unique with pool_id, so a pool cannot be
   * overfilled.
   */
  readonly pool_slot?: number;
  readonly pool_priority?: number;
  readonly hardware_info?: Json;
  readonly location?: Json;
  readonly configuration?: Json;
  /**
   * The version grows when the configuration changes; `configuration_applied` is the version that the node has taken
   * over.
   */
  readonly configuration_version: number;
  readonly configuration_applied: number;
  /** Keys are spelled for the store; see labels.ts. */
  readonly labels: Readonly<Record<string, string>>;
  readonly connectivity: ConnectivityState;
  /** The start of 1970 until the first beat arrives. */
  readonly last_heartbeat: Date;
  readonly started_at?: Date;
  /** -1 without a score. */
  readonly poot_score: number;
  /** The number of the count that the score comes from; absent without a score. */
  readonly poot_count?: number;
  readonly agent_version: string;
  readonly banned: boolean;
  readonly payout_address?: string;
  readonly payout_address_fingerprint?: string;
  readonly payout_address_masked?: string;
  /** Payouts to the address wait until this time; absent for a first address. */
  readonly payout_address_usable_at?: Date;
  /** Raw Ed25519 key in base64. */
  readonly public_key?: string;
  readonly key_fingerprint?: string;
  /**
   * Grows with each reset of the enrolment; absent before the first. A token of an earlier enrolment is no longer
   * accepted.
   */
  readonly enrollment_epoch?: number;
  /**
   * When the enrolment was last reset. A token from before that names no enrolment is no longer accepted. If this
   * differs from enrollment_epoch_at, a former version did the last reset, and former versions do not count enrolments.
   */
  readonly enrollment_reset_at?: Date;
  /** When the reset took place that enrollment_epoch counted last; always written with it. */
  readonly enrollment_epoch_at?: Date;
  /** At most 256; expired ones stay until the next change of this list. */
  readonly allocations?: readonly Allocation[];
  readonly thresholds?: ThresholdSettings;
  readonly transition?: Transition;
  readonly maintenance_until?: Date;
  /** Grows with each session; only the newest session may write. */
  readonly session_epoch: number;
  readonly session_boot_id?: string;
  /**
   * The replica that holds the newest session's stream and judges its silence; `unary` for a session without a stream.
   */
  readonly session_replica?: string;
  /** The newest sessions, at most 12: who opened them and when. */
  readonly boots?: readonly Boot[];
  /** Since when the node is DISCONNECTED because it was silent; absent when it said goodbye. */
  readonly silent_since?: Date;
  /**
   * How far the node's clock was off as its history last said: ahead of ours, or behind (negative); absent when it was
   * right.
   */
  readonly clock_off_ms?: number;
  /** The greatest fencing token of a leader that has changed the node. */
  readonly fence?: number;
  /** Random id of the last write. A writer whose answer was lost compares it to learn whether its write was applied. */
  readonly write_id?: string;
  readonly idempotency_id?: string;
  readonly idempotency_meaning?: string;
  readonly version: number;
  /** Number of the last change. */
  readonly change: number;
  readonly unlogged: readonly Change[];
  /** Present while `unlogged` holds anything. */
  readonly unlogged_since?: Date;
  readonly created_at: Date;
  readonly updated_at: Date;
  /** Absent once deleted; lists and counts include only live nodes. */
  readonly live?: true;
  /** Set by a delete; the document is removed once its changes are in the log. */
  readonly deleted_at?: Date;
}

/** A change to make: fields to set, fields to take away, and what the history says of it. */
export interface Patch {
  readonly set?: Partial<NodeDocument>;
  readonly unset?: readonly (keyof NodeDocument)[];
  readonly event: { readonly type: EventType; readonly reason: string; readonly actor: string };
  /**
   * Apply only while this session epoch is current. Opening a session does not bump `version`, so the version check
   * alone would miss it.
   */
  readonly ofEpoch?: number;
}

/** What a lifecycle call leads to: a change, or a message that the node is already in that state. */
export type Decision = { readonly patch: Patch } | { readonly already: string };

const allowedFrom: Readonly<Record<Operation, readonly NodeStatus[]>> = {
  start: ["inactive", "error"],
  stop: ["active", "starting", "error", "maintenance"],
  restart: ["active", "error"],
};
const goal: Readonly<Record<Operation, { readonly via: NodeStatus; readonly to: NodeStatus }>> = {
  start: { via: "starting", to: "active" },
  stop: { via: "stopping", to: "inactive" },
  restart: { via: "starting", to: "active" },
};

/** Begins a start, stop or restart. @throws Failure 5003 */
export function begin(
  node: NodeDocument,
  operation: Operation,
  by: { readonly actor: string; readonly operationId: string; readonly deadline: Date },
): Decision {
  const { via, to } = goal[operation];
  if (operation !== "restart" && node.status === to) return { already: `Node is already ${to}` };
  if (node.status === via && node.transition?.operation === operation) return { already: `Node is already ${via}` };
  if (!allowedFrom[operation].includes(node.status)) {
    throw wrongStatus(`Cannot ${operation} node in status: ${node.status}`);
  }
  if (node.banned && operation !== "stop") throw wrongStatus(`Cannot ${operation} a banned node`);
  const transition: Transition = { operation_id: by.operationId, operation, deadline: by.deadline };
  return {
    patch: {
      set: { status: via, status_reason: "", transition },
      unset: ["maintenance_until"],
      event: { type: "status", reason: `${operation} requested`, actor: by.actor },
    },
  };
}

/** Completes a transition with success. */
export function complete(transition: Transition, now: Date, reason: string): Patch {
  const { to } = goal[transition.operation];
  return {
    set: { status: to, status_reason: "", ...(to === "active" ? { started_at: now } : {}) },
    unset: ["transition"],
    event: { type: "status", reason, actor: "system" },
  };
}

/** Puts a node into ERROR, whatever it was doing. */
export const fail = (reason: string): Patch => ({
  set: { status: "error", status_reason: reason },
  unset: ["transition", "maintenance_until"],
  event: { type: "status", reason, actor: "system" },
});

/**
 * The change that is due by time alone. A transition of a node without a connection completes, because nobody can be
 * asked. A transition that a connected node left unanswered past its deadline ends in ERROR. Maintenance ends at its
 * deadline. Undefined: nothing is due yet.
 */
export function advance(node: NodeDocument, now: Date): Patch | undefined {
  const { transition } = node;
  if (transition !== undefined) {
    if (node.connectivity !== "connected") {
      return complete(transition, now, `${transition.operation} completed without a connection`);
    }
    return transition.deadline <= now ? fail(`The node did not answer ${transition.operation} in time`) : undefined;
  }
  if (node.status === "maintenance" && node.maintenance_until !== undefined && node.maintenance_until <= now) {
    return leaveMaintenance("maintenance deadline passed", "system");
  }
  return undefined;
}

/** What a node's answer to the command of its transition changes. Undefined: the answer is to another command. */
export function answered(
  node: NodeDocument,
  result: { readonly commandId: string; readonly ok: boolean; readonly error: string },
  now: Date,
): Patch | undefined {
  const { transition } = node;
  if (transition === undefined || transition.operation_id !== result.commandId) return undefined;
  if (result.ok) return complete(transition, now, `${transition.operation} completed by the node`);
  return fail(result.error === "" ? `The node failed to ${transition.operation}` : result.error);
}

/** @throws Failure 5003 */
export function enterMaintenance(node: NodeDocument, actor: string, reason: string, until: Date | undefined): Decision {
  if (node.status !== "active" && node.status !== "maintenance") {
    throw wrongStatus(`Cannot enter maintenance in status: ${node.status}`);
  }
  const same = node.maintenance_until?.getTime() === until?.getTime() && node.status_reason === reason;
  if (node.status === "maintenance" && same) return { already: "Node is already in maintenance" };
  return {
    patch: {
      set: {
        status: "maintenance",
        status_reason: reason,
        ...(until === undefined ? {} : { maintenance_until: until }),
      },
      unset: until === undefined ? ["maintenance_until"] : [],
      event: { type: "status", reason: reason === "" ? "maintenance" : reason, actor },
    },
  };
}

/** @throws Failure 5003 */
export function exitMaintenance(node: NodeDocument, actor: string): Decision {
  if (node.status === "active") return { already: "Node is already active" };
  if (node.status !== "maintenance") throw wrongStatus(`Cannot exit maintenance in status: ${node.status}`);
  return { patch: leaveMaintenance("maintenance ended", actor) };
}

const leaveMaintenance = (reason: string, actor: string): Patch => ({
  set: { status: "active", status_reason: "" },
  unset: ["maintenance_until"],
  event: { type: "status", reason, actor },
});

/**
 * Shuts a node out; undefined when it is banned already. A ban ends the node's session, after which nobody would judge
 * its silence, so the same write disconnects it.
 */
export function ban(node: NodeDocument, actor: string, reason: string): Patch | undefined {
  if (node.banned) return undefined;
  const disconnects = node.connectivity === "connected";
  return {
    set: { banned: true, ...(disconnects ? { connectivity: "disconnected" } : {}) },
    unset: ["silent_since"],
    event: { type: "banned", reason, actor },
  };
}

/**
 * Forgets the pinned key. This ends the node's session, after which nobody would judge its silence, so the same write
 * disconnects the node. The write also takes the next session epoch: nothing that the old session still says is
 * written, whichever replica hears it.
 */
export function resetEnrollment(node: NodeDocument, actor: string, now: Date): Patch {
  const disconnects = node.connectivity === "connected";
  return {
    set: {
      enrollment_epoch: (node.enrollment_epoch ?? 0) + 1,
      enrollment_reset_at: now,
      enrollment_epoch_at: now,
      session_epoch: node.session_epoch + 1,
      ...(disconnects ? { connectivity: "disconnected" } : {}),
    },
    unset: ["public_key", "key_fingerprint", "silent_since"],
    event: { type: "updated", reason: resetReason, actor },
    ofEpoch: node.session_epoch,
  };
}

const resetReason = "enrolment reset";

/** Whether a change in the log is a reset of its node's enrolment. */
export const isReset = ({ type, reason }: Pick<Change, "type" | "reason">): boolean =>
  type === "updated" && reason === resetReason;

/** What a node's token says about how it was made. */
export interface TokenOrigin {
  /** To the second. */
  readonly issuedAt: Date;
  /** The enrolment it belongs to; undefined when another service made the token, which knows of no enrolments. */
  readonly enrollmentEpoch: number | undefined;
}

/** What a node's document says about resets of its enrolment. */
export type ResetFields = Pick<NodeDocument, "enrollment_epoch" | "enrollment_reset_at" | "enrollment_epoch_at">;

/**
 * Whether a node's token is older than the last reset of its enrolment. Dates decide only if the token names no
 * enrolment, or if a former version did the reset, which left the number as it was. A token issued in the same second
 * as the reset counts as older, because nothing shows that it is newer.
 */
export function predatesReset(
  token: TokenOrigin,
  { enrollment_epoch = 0, enrollment_reset_at, enrollment_epoch_at }: ResetFields,
): boolean {
  if (token.enrollmentEpoch !== undefined && token.enrollmentEpoch < enrollment_epoch) return true;
  if (enrollment_reset_at === undefined) return false;
  const counted = enrollment_reset_at.getTime() === enrollment_epoch_at?.getTime();
  if (token.enrollmentEpoch !== undefined && counted) return false;
  return token.issuedAt.getTime() <= Math.floor(enrollment_reset_at.getTime() / 1000) * 1000;
}

/** A deletion needs a node at rest. @throws Failure 5003 */
export function remove(node: NodeDocument, actor: string, now: Date): Patch {
  if (node.status !== "inactive" && node.status !== "error") {
    throw wrongStatus(`Cannot delete node in status: ${node.status}`);
  }
  return {
    set: { deleted_at: now },
    unset: ["live", "name_scope", "pool_id", "pool_slot", "pool_priority", "idempotency_id"],
    event: { type: "deleted", reason: "deleted", actor },
  };
}

/** The status the node should bring itself to. */
export function desiredStatus(status: NodeStatus): "active" | "inactive" | "maintenance" {
  switch (status) {
    case "starting":
    case "active":
      return "active";
    case "maintenance":
      return "maintenance";
    case "inactive":
    case "stopping":
    case "error":
      return "inactive";
    default:
      return status satisfies never;
  }
}

/**
 * The commands that a connected node still has to be sent. They follow from what is stored; nothing is queued, so
 * nothing is lost.
 */
export type PendingCommand =
  | { readonly commandId: string; readonly kind: Operation }
  | { readonly commandId: string; readonly kind: "update_configuration"; readonly configuration: Json };

export function pendingCommands(node: NodeDocument): PendingCommand[] {
  const commands: PendingCommand[] = [];
  if (node.transition) commands.push({ commandId: node.transition.operation_id, kind: node.transition.operation });
  if (node.configuration_version > node.configuration_applied) {
    commands.push({
      commandId: `cfg_${node.configuration_version}`,
      kind: "update_configuration",
      configuration: node.configuration ?? {},
    });
  }
  return commands;
}

/** The configuration version that a command's id names; undefined for other commands. */
export function configurationVersion(commandId: string): number | undefined {
  const match = /^cfg_(\d{1,15})$/.exec(commandId);
  return match ? Number(match[1]) : undefined;
}
