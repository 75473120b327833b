// Proves a node's output: at each interval it produces output, signs it and submits the proof. If the answer is lost,
// it submits the same proof again, and the service returns the verdict that it made the first time.
import { createHash } from "node:crypto";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type CallOptions, type Client, Code, ConnectError } from "@connectrpc/connect";
import type { PoOTService, PoOTValidation } from "../../gen/lucid/node/v1/poot_service_pb.js";
import { retryAfterMs, retryReason } from "../client/errors.js";
import { pauseMs } from "../client/pause.js";
import type { Clock } from "../clock.js";
import { sha256Hex } from "../crypto.js";
import { backoffMs } from "./agent.js";
import type { Identity } from "./credentials.js";

export interface ProverOptions {
  readonly poot: Client<typeof PoOTService>;
  readonly identity: Identity;
  /** An access token of the node that stays valid for a while. */
  readonly token: () => Promise<string>;
  /** The service refused that token; the next one will be another. */
  readonly refused?: (token: string) => void;
  /** The service's time, which dates proofs; the time of `clock` when absent. */
  readonly now?: () => Date;
  /** Whether `now` can be trusted; proofs wait until it can. Always trusted when absent. */
  readonly isTimeKnown?: () => boolean;
  /** The node's output, 1 byte to 1 MiB. `seed` is new each time and specific to this node. */
  readonly produce: (seed: string, signal: AbortSignal) => Promise<Uint8Array<ArrayBuffer>>;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly intervalMs: number;
  /** Whether the service wants the node to work. It refuses proofs of a resting node. */
  readonly isAtWork: () => boolean;
  readonly onProof: (validation: PoOTValidation) => void;
  /** Called for a proof without a verdict. The next proof comes at its usual time. */
  readonly onProblem: (message: string) => void;
}

const timeoutMs = 30_000;
/** How often one proof is submitted before the agent gives up. */
const attemptsMax = 6;

/** As in the contract: see PoOTProof.nonce. */
const nonceForm = /^[\x21-\x7e]{8,256}$/;

/** How soon a node told to work begins to prove, and how soon it notices that the time is known again. */
const restMs = 1_000;
/** How long output waits for a known time. Its nonce is not valid for longer. */
const datingMs = 300_000;

/** Proves once the node is at work and then at each interval, until the signal aborts. */
export async function runProver(options: ProverOptions, signal: AbortSignal): Promise<void> {
  const { clock, intervalMs } = options;
  while (!signal.aborted) {
    if (!options.isAtWork() || options.isTimeKnown?.() === false) {
      await clock.sleep(restMs, signal);
      continue;
    }
    const dueMs = clock.monotonicMs() + intervalMs;
    try {
      options.onProof(await prove(options, signal));
    } catch (error) {
      if (!signal.aborted) options.onProblem(ConnectError.from(error).message);
    }
    await clock.sleep(Math.max(0, dueMs - clock.monotonicMs()), signal);
  }
}

/** One proof, from nonce to verdict. @throws ConnectError when there is no verdict */
async function prove(options: ProverOptions, signal: AbortSignal): Promise<PoOTValidation> {
  const { poot, identity, clock, now = clock.now } = options;
  const { nodeId } = identity;
  const { nonce } = await called(options, signal, (call) => poot.issuePoOTChallenge({ nodeId }, call));
  // The nonce goes into the signed text and to the command that produces the output.
  if (!nonceForm.test(nonce)) throw new ConnectError("The service sent a nonce of no known form", Code.Internal);
  const outputData = await options.produce(nonce, signal);
  await untilTimeIsKnown(options, signal);
  const timestamp = timestampFromDate(now());
  const at = { seconds: Number(timestamp.seconds), nanos: timestamp.nanos };
  const signature = identity.signProof({ outputHash: sha256Hex(outputData), at, nonce });
  const proof = { nodeId, outputData, timestamp, nonce, signature };
  for (let attempt = 1; ; attempt++) {
    try {
      const { validation } = await called(options, signal, (call) => poot.validatePoOT(proof, call));
      if (validation === undefined) throw new ConnectError("The service answered without a verdict", Code.Internal);
      return validation;
    } catch (error) {
      if (attempt === attemptsMax || signal.aborted || retryReason(error) === undefined) throw error;
      await clock.sleep(pauseMs(retryAfterMs(error), backoffMs(attempt, options.random), options.random()), signal);
    }
  }
}

/**
 * The machine may have been suspended while it produced. @throws ConnectError when the time does not become known soon
 * enough
 */
async function untilTimeIsKnown({ clock, isTimeKnown }: ProverOptions, signal: AbortSignal): Promise<void> {
  const overMs = clock.monotonicMs() + datingMs;
  while (isTimeKnown?.() === false) {
    if (signal.aborted || clock.monotonicMs() >= overMs) {
      throw new ConnectError("The service has not told its time since this machine's clock jumped", Code.Unavailable);
    }
    await clock.sleep(restMs, signal);
  }
}

/** Retries once with another token if the service refuses the node's current one. */
async function called<Answer>(
  { token, refused }: ProverOptions,
  signal: AbortSignal,
  call: (options: CallOptions) => Promise<Answer>,
): Promise<Answer> {
  const attempt = (bearer: string) => call({ headers: { authorization: `Bearer ${bearer}` }, timeoutMs, signal });
  const held = await token();
  try {
    return await attempt(held);
  } catch (error) {
    if (refused === undefined || ConnectError.from(error).code !== Code.Unauthenticated) throw error;
    refused(held);
    return attempt(await token());
  }
}

/** Digests of the built-in work: 32 bytes each, enough for a new node's first proof to be valid. */
const digests = 512;
const roundsPerDigest = 200;
const digestsPerSlice = 16;

/**
 * The built-in work: a chain of SHA-256 digests over the seed, 16,384 bytes that nobody can know without computing
 * them. It runs in slices, so that heartbeats go on.
 */
export async function hashChain(clock: Clock, seed: string, signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  const output = new Uint8Array(digests * 32);
  let digest: Uint8Array = new TextEncoder().encode(seed);
  for (let place = 0; place < digests; place++) {
    for (let round = 0; round < roundsPerDigest; round++) digest = createHash("sha256").update(digest).digest();
    output.set(digest, place * 32);
    if (place % digestsPerSlice === 0) await clock.sleep(0, signal);
    signal.throwIfAborted();
  }
  return output;
}
