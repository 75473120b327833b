// The one way out of the process to addresses that are neither our stores nor our clients: only this file names fetch.

/** HTTP to the outside. The caller bounds the wait by a signal and the answer by reading no more of it than it needs. */
export interface Outbound {
  readonly fetch: typeof fetch;
}

export const createOutbound = (): Outbound => ({ fetch: (...request) => fetch(...request) });
