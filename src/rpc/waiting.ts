// Calls whose body has not come: each holds some memory until its patience ends, so their number is bounded by connection
// and by address. The oldest gives way: a body that is on its way follows its headers at once. Pure.

/** Of one connection, and of one address. A client may have a thousand calls at once whose bodies all come. */
const perConnectionMax = 1_000;
const perAddressMax = 2_000;

interface WaitingCall {
  giveUp: () => void;
}

/** In the order in which they began. */
type Waiting = Set<WaitingCall>;

export interface WaitingCalls {
  /** Lets a call in; where there are too many, the one that has waited for longest is given up. */
  enter(
    connection: object,
    address: string,
  ): {
    /** The body is there, or the call is over. */
    readonly done: () => void;
    /** Says how the wait is ended. */
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
