// A TCP balancer before several replicas: nodes dial one address and spread over the replicas that are up.
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export interface Balancer extends AsyncDisposable {
  readonly port: number;
  readonly baseUrl: string;
  /** How many connections are open. */
  readonly connections: number;
  /**
   * Resets that share of the connections, all by default, as a network does that fails in part. `random` is in [0, 1).
   * Answers how many it reset.
   */
  cut(share?: number, random?: () => number): number;
}

/**
 * New connections go to the ports in turn, past ports that refuse. A connection that no port takes is reset. `ports` is
 * called for each connection. There are no health checks: a frozen process still gets connections, as long as the
 * kernel accepts for it.
 */
export async function openBalancer(ports: () => readonly number[]): Promise<Balancer> {
  const pairs = new Set<Pair>();
  let turn = 0;

  const relay = async (near: Socket): Promise<void> => {
    near.on("error", () => undefined);
    const given = ports();
    const first = turn++;
    for (let attempt = 0; attempt < given.length && !near.destroyed; attempt++) {
      const far = await dial(given[(first + attempt) % given.length] as number);
      if (far === undefined) continue;
      const pair = { near, far };
      pairs.add(pair);
      join(near, far);
      far.once("close", () => pairs.delete(pair));
      return;
    }
    near.resetAndDestroy();
  };

  const server = createServer((near) => void relay(near));
  await new Promise<void>((resolve) => server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    baseUrl: `http://127.0.0.1:${port}`,
    get connections() {
      return pairs.size;
    },
    cut: (share = 1, random = () => 0) => {
      const chosen = [...pairs].filter(() => random() < share);
      for (const pair of chosen) reset(pair);
      return chosen.length;
    },
    [Symbol.asyncDispose]: async () => {
      for (const pair of pairs) reset(pair);
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

interface Pair {
  readonly near: Socket;
  readonly far: Socket;
}

function reset({ near, far }: Pair): void {
  near.resetAndDestroy();
  far.resetAndDestroy();
}

/** Undefined when nobody listens there. */
function dial(port: number): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const far = connect({ port, host: "127.0.0.1", noDelay: true });
    far.once("connect", () => resolve(far));
    far.on("error", () => resolve(undefined));
  });
}

/** Passes all that one side sends to the other, and its end and its reset, too. */
function join(near: Socket, far: Socket): void {
  near.setNoDelay(true);
  near.pipe(far).pipe(near);
  far.once("close", (failed) => (failed ? near.resetAndDestroy() : near.destroySoon()));
  near.once("close", (failed) => (failed ? far.resetAndDestroy() : far.destroySoon()));
}
