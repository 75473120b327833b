// A node at the other end of a heartbeat stream. It does what the test says, when the test says so.

import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, ConnectError } from "@connectrpc/connect";
import type { Http2SessionManager } from "@connectrpc/connect-node";
import type {
  Ack,
  CommandStatus,
  HeartbeatRequestSchema,
  HeartbeatResponse,
  HelloSchema,
  NodeMetricsSchema,
  NodeService,
  Welcome,
} from "../../../gen/lucid/node/v1/node_service_pb.js";
import { createQueue } from "../../../src/agent/queue.js";
import { until, within } from "../world/until.js";
import { clientsOf, type World } from "../world/world.js";

type Sent = MessageInitShape<typeof HeartbeatRequestSchema>;
type Hello = Exclude<MessageInitShape<typeof HelloSchema>, { $typeName: string }>;
type Metrics = Exclude<MessageInitShape<typeof NodeMetricsSchema>, { $typeName: string }>;
type Received = Exclude<HeartbeatResponse["message"], { case: undefined; value?: undefined }>;
type Case = Received["case"];
type ValueOf<Name extends Case> = Extract<Received, { case: Name }>["value"];

export interface NodeStream {
  /** All messages that the node has received. */
  readonly received: readonly Received[];
  /** Undefined while the stream is open; then how it ended. */
  readonly end: { readonly error: ConnectError | undefined } | undefined;
  send(message: Sent): void;
  /** Says Hello and waits for Welcome. */
  hello(tweaks?: Hello): Promise<Welcome>;
  /** Beats and waits for that beat's Ack. Without a sequence it takes the next one. */
  beat(sequence?: bigint, metrics?: Metrics): Promise<Ack>;
  result(commandId: string, status: CommandStatus, error?: string): void;
  /** Says Leave and waits for the end. */
  leave(reason?: string): Promise<ConnectError | undefined>;
  /** The next message of that kind, past those that were taken before. */
  next<Name extends Case>(name: Name, limitMs?: number): Promise<ValueOf<Name>>;
  /** Ends its own half only. */
  halfClose(): void;
  /** Cancels the call, and the transport tells the server. */
  cancel(): void;
  /** Waits for the end; undefined when the stream ended with OK. */
  ended(limitMs?: number): Promise<ConnectError | undefined>;
}

export function openNodeStream(
  nodes: Client<typeof NodeService>,
  { nodeId, bootId = "boot-1" }: { readonly nodeId: string; readonly bootId?: string },
): NodeStream {
  const outgoing = createQueue<Sent>();
  const control = new AbortController();
  const received: Received[] = [];
  const taken = new Set<Received>();
  let end: { readonly error: ConnectError | undefined } | undefined;
  let sequence = 0n;

  const read = async () => {
    for await (const { message } of nodes.heartbeat(outgoing.items(), { signal: control.signal })) {
      if (message.case !== undefined) received.push(message);
    }
  };
  const done = read().then(
    () => undefined,
    (error: unknown) => ConnectError.from(error),
  );
  void done.then((error) => {
    end = { error };
    outgoing.close();
  });

  const find = <Name extends Case>(name: Name, fits: (value: ValueOf<Name>) => boolean) =>
    received.find(
      (message): message is Extract<Received, { case: Name }> =>
        message.case === name && !taken.has(message) && fits(message.value as ValueOf<Name>),
    );
  const take = async <Name extends Case>(
    name: Name,
    fits: (value: ValueOf<Name>) => boolean,
    limitMs = 10_000,
  ): Promise<ValueOf<Name>> => {
    await until(() => find(name, fits) !== undefined || end !== undefined, `a ${name} comes`, limitMs);
    const message = find(name, fits);
    if (message === undefined) throw end?.error ?? new Error(`the stream ended OK without a ${name}`);
    taken.add(message);
    return message.value as ValueOf<Name>;
  };
  const ended = (limitMs?: number) => within(done, "the stream ends", limitMs);

  return {
    received,
    get end() {
      return end;
    },
    send: outgoing.push,
    hello: (tweaks = {}) => {
      outgoing.push({ message: { case: "hello", value: { nodeId, bootId, agentVersion: "test/1", ...tweaks } } });
      return take("welcome", () => true);
    },
    beat: (given, metrics) => {
      sequence = given ?? sequence + 1n;
      const sent = sequence;
      outgoing.push({ message: { case: "beat", value: { sequence, ...(metrics === undefined ? {} : { metrics }) } } });
      return take("ack", (ack) => ack.sequence === sent);
    },
    result: (commandId, status, error = "") =>
      outgoing.push({ message: { case: "commandResult", value: { commandId, status, error } } }),
    leave: (reason = "") => {
      outgoing.push({ message: { case: "leave", value: { reason } } });
      return ended();
    },
    next: (name, limitMs) => take(name, () => true, limitMs),
    halfClose: outgoing.close,
    cancel: () => control.abort(),
    ended,
  };
}

/** A stream on which that node has been welcomed, over the world's connection or a connection of its own. */
export async function connectNode(
  world: World,
  nodeId: string,
  options: {
    readonly bootId?: string;
    readonly token?: string;
    readonly connection?: Http2SessionManager;
    readonly hello?: Hello;
  } = {},
): Promise<NodeStream & { readonly welcome: Welcome }> {
  const token = options.token ?? (await world.nodeToken(nodeId));
  const { nodes } =
    options.connection === undefined ? world.as(token) : clientsOf(world.baseUrl, options.connection, token);
  const stream = openNodeStream(nodes, {
    nodeId,
    ...(options.bootId === undefined ? {} : { bootId: options.bootId }),
  });
  const welcome = await stream.hello(options.hello);
  return Object.defineProperties({ welcome }, Object.getOwnPropertyDescriptors(stream)) as NodeStream & {
    readonly welcome: Welcome;
  };
}
