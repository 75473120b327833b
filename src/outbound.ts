// The only way out of the process to addresses other than our stores and clients. Only this file names fetch.

/**
 * HTTP to the outside. The caller bounds the wait with a signal, and the answer by reading only as much as it needs.
 */
export interface Outbound {
  readonly fetch: typeof fetch;
}

export const createOutbound = (): Outbound => ({ fetch: (...request) => fetch(...request) });
