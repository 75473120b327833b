// Calls that wait for their body. Each holds some memory until its time limit, so their number is bounded per
// connection and per address. Beyond the bound the oldest call is given up, since an honest body follows its headers at
// once. Pure.

/** Per connection and per address. A client may have a thousand calls at once that all receive their bodies. */
const perConnectionMax = 1_000;
const perAddressMax = 2_000;

interface WaitingCall {
  giveUp: () => void;
}

/** In order of their beginning. */
type Waiting = Set<WaitingCall>;

export interface WaitingCalls {
  /** Adds a call. If there are too many, gives up the call that has waited longest. */
  enter(
    connection: object,
    address: string,
  ): {
    /** Called when the body has arrived or the call is over. */
    readonly done: () => void;
    /** Receives a function that ends the wait. */
    readonly waits: (giveUp: () => void) => void;
  };
}

export function createWaitingCalls(): WaitingCalls {
  const byConnection = new WeakMap<object, Waiting>();
  const byAddress = new Map<string, Waiting>();
  const makeRoom = (waiting: Waiting, max: number): void => {
    if (waiting.size < max) return;
    const [oldest] = waiting;
    oldest?.giveUp();
  };
  return {
    enter: (connection, address) => {
      const own = byConnection.get(connection) ?? new Set();
      const all = byAddress.get(address) ?? new Set();
      makeRoom(own, perConnectionMax);
      makeRoom(all, perAddressMax);
      const done = () => {
        own.delete(call);
        if (all.delete(call) && all.size === 0 && byAddress.get(address) === all) byAddress.delete(address);
      };
      const call: WaitingCall = { giveUp: done };
      byConnection.set(connection, own.add(call));
      byAddress.set(address, all.add(call));
      return {
        done,
        waits: (giveUp) => {
          call.giveUp = () => {
            done();
            giveUp();
          };
        },
      };
    },
  };
}
