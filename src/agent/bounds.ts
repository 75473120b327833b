// What a service may make an agent do, and how often: times that lie beyond are taken as the nearest that is sane, so that
// neither a service gone wrong nor somebody who poses as it makes a flood of an agent, or lets it fall asleep for good. Pure.

interface Bounds {
  readonly minMs: number;
  readonly maxMs: number;
}

const hourMs = 3_600_000;

/** Each holds what a service can be set to (docs/operations.md), with room above for a large fleet. */
export const paceBounds: Bounds = { minMs: 1_000, maxMs: 2 * hourMs };
export const graceBounds: Bounds = { minMs: 1_000, maxMs: 24 * hourMs };
export const metricsBounds: Bounds = { minMs: 1_000, maxMs: 24 * hourMs };
export const reconnectBounds: Bounds = { minMs: 0, maxMs: 600_000 };

/** Of a span in milliseconds; what is no number is the least. */
export const bounded = (ms: number, { minMs, maxMs }: Bounds): number =>
  Number.isNaN(ms) ? minMs : Math.min(maxMs, Math.max(minMs, ms));

/** Streams are opened no faster than this, whatever ends them. */
export const streamSpacingMs = 1_000;

/** Messages that wait for a service that does not read them: it sent commands faster than it took their answers. */
export const waitingMax = 1_000;

/** The largest message that an agent takes. The largest that a service has for it is a command with a configuration. */
export const agentReadMaxBytes = 1024 * 1024;

/** Characters that are shown of what a service says. */
export const shownMax = 500;
