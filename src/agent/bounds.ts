// Bounds on what a service may make an agent do. A time outside its bounds is replaced by the nearest bound, so that
// neither a faulty service nor an impostor can make the agent flood others or sleep forever. Pure.

interface Bounds {
  readonly minMs: number;
  readonly maxMs: number;
}

const hourMs = 3_600_000;

/** Each range covers the service's settings (docs/operations.md), with room above for a large fleet. */
export const paceBounds: Bounds = { minMs: 1_000, maxMs: 2 * hourMs };
export const graceBounds: Bounds = { minMs: 1_000, maxMs: 24 * hourMs };
export const metricsBounds: Bounds = { minMs: 1_000, maxMs: 24 * hourMs };
export const reconnectBounds: Bounds = { minMs: 0, maxMs: 600_000 };

/** Clamps a duration in milliseconds. NaN becomes the minimum. */
export const bounded = (ms: number, { minMs, maxMs }: Bounds): number =>
  Number.isNaN(ms) ? minMs : Math.min(maxMs, Math.max(minMs, ms));

/** The shortest time between two opened streams, whatever ended them. */
export const streamSpacingMs = 1_000;

/** The most messages waiting for a service that does not read: it sends commands faster than it takes the answers. */
export const waitingMax = 1_000;

/** Bytes of the largest message that an agent accepts. The service's largest is a command with a configuration. */
export const agentReadMaxBytes = 1024 * 1024;

/** The most characters shown of a service's text. */
export const shownMax = 500;
