// The node's prover against a real service: each output is scored once, even if answers are lost.
import { createHash } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { PoOTValidation } from "../../gen/lucid/node/v1/poot_service_pb.js";
import { createMemoryCredentials, type Identity } from "../../src/agent/credentials.js";
import { hashChain, type ProverOptions, runProver } from "../../src/agent/prover.js";
import { systemClock } from "../../src/clock.js";
import { enroll, enrollmentToken } from "../support/clients/enroll.js";
import { untilStatus } from "../support/fleet/look.js";
import { aNode } from "../support/world/builders.js";
import { until } from "../support/world/until.js";
import { openWorld, type World } from "../support/world/world.js";

let world: World;
beforeAll(async () => {
  world = await openWorld({ settings: { HARDWARE_VALIDATION_ENABLED: "true", POOT_CHALLENGES_REQUIRED: "true" } });
});
afterAll(() => world[Symbol.asyncDispose]());

async function anEnrolledNode(): Promise<Identity> {
  const { nodeId } = await aNode(world.nodes);
  const { identity } = createMemoryCredentials(nodeId);
  await enroll(world.as(await enrollmentToken(world, nodeId)), identity);
  await world.nodes.startNode({ nodeId });
  await untilStatus(world, nodeId, "ACTIVE");
  return identity;
}

interface Proving extends AsyncDisposable {
  readonly proofs: readonly PoOTValidation[];
  readonly problems: readonly string[];
}

function startProver(identity: Identity, given: Partial<ProverOptions> = {}): Proving {
  const control = new AbortController();
  const [proofs, problems]: [PoOTValidation[], string[]] = [[], []];
  const running = runProver(
    {
      poot: world.as(undefined).poot,
      identity,
      token: () => world.nodeToken(identity.nodeId),
      produce: (seed, signal) => hashChain(systemClock, seed, signal),
      clock: systemClock,
      random: () => 0,
      intervalMs: 20,
      isAtWork: () => true,
      onProof: (validation) => proofs.push(validation),
      onProblem: (message) => problems.push(message),
      ...given,
    },
    control.signal,
  );
  return {
    proofs,
    problems,
    [Symbol.asyncDispose]: () => {
      control.abort();
      return running;
    },
  };
}

const scoreOf = async ({ nodeId }: Identity) => world.poot.getPoOTScore({ nodeId });

describe("a node that proves", () => {
  test("is scored for what it has produced, signed, with the service's own nonces; its first proof is valid", async () => {
    const identity = await anEnrolledNode();
    const made: Uint8Array[] = [];
    const produce: ProverOptions["produce"] = async (seed, signal) => {
      const output = await hashChain(systemClock, seed, signal);
      made.push(output);
      return output;
    };
    await using prover = startProver(identity, { produce });
    await until(() => prover.proofs.length >= 3, "three proofs");
    const hashes = made.map((output) => createHash("sha256").update(output).digest("hex"));
    expect(prover.proofs.map(({ outputHash }) => outputHash)).toEqual(hashes.slice(0, prover.proofs.length));
    expect(new Set(hashes).size).toBe(hashes.length);
    expect(prover.proofs[0]).toMatchObject({ isValid: true, replayed: false, outputSize: 16_384 });
    expect(prover.problems).toEqual([]);
    await until(async () => (await scoreOf(identity)).sampleSize >= 3, "they count");
  });

  test.each([
    [Code.Unavailable, "Unavailable"],
    [Code.Canceled, "Canceled, as a connection that is cut shows"],
    [Code.Internal, "Internal"],
  ])("submits a proof whose answer was lost again, and is scored for it once (%i: %s)", async (code) => {
    const identity = await anEnrolledNode();
    const { poot } = world.as(undefined);
    let lost = 0;
    const forgetful: typeof poot = {
      ...poot,
      validatePoOT: async (request, options) => {
        const answer = await poot.validatePoOT(request, options);
        if (lost++ < 2) throw new ConnectError("cut", code);
        return answer;
      },
    };
    const clock = { ...systemClock, sleep: (_ms: number, signal: AbortSignal) => systemClock.sleep(1, signal) };
    await using prover = startProver(identity, { poot: forgetful, clock, intervalMs: 3_600_000 });
    await until(() => prover.proofs.length >= 1, "a verdict");
    expect(prover.proofs[0]).toMatchObject({ isValid: true, replayed: true });
    expect(prover.problems).toEqual([]);
  });

  test("says what went wrong and goes on; proves nothing while it rests", async () => {
    const identity = await anEnrolledNode();
    let produced = 0;
    const produce: ProverOptions["produce"] = async () => {
      if (produced++ === 0) throw new Error("nothing came");
      return produced === 2 ? new Uint8Array(0) : new Uint8Array(100).fill(produced);
    };
    let atWork = true;
    let rests = 0;
    const clock = {
      ...systemClock,
      sleep: (_ms: number, signal: AbortSignal) => {
        rests++;
        return systemClock.sleep(1, signal);
      },
    };
    await using prover = startProver(identity, { produce, clock, isAtWork: () => atWork });
    await until(() => prover.proofs.length >= 1, "a proof");
    expect(prover.problems.slice(0, 2)).toEqual([
      expect.stringContaining("nothing came"),
      expect.stringContaining("Output data is empty"),
    ]);
    atWork = false;
    const begun = rests;
    await until(() => rests > begun + 2, "it rests");
    const before = produced;
    await until(() => rests > begun + 20, "it rests for long");
    expect(produced).toBe(before);
  });
});
