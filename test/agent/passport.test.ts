// All parts of an agent share one passport: what one part learns of the node's tokens holds for the others.
import { createServer as createHttp2Server, type Http2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, createRouterTransport, type HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { afterEach, expect, test } from "vitest";
import { AdminService } from "../../gen/lucid/node/v1/admin_service_pb.js";
import { NodeService, NodeStatus } from "../../gen/lucid/node/v1/node_service_pb.js";
import { PoOTService } from "../../gen/lucid/node/v1/poot_service_pb.js";
import { createMemoryCredentials } from "../../src/agent/credentials.js";
import { createPassport } from "../../src/agent/passport.js";
import { runMachineAgent } from "../../src/cli/agent.js";
import { systemClock } from "../../src/clock.js";
import { until, within } from "../support/world/until.js";

const inADay = () => new Date(systemClock.now().getTime() + 86_400_000);
const pairOf = (number: number) => ({
  accessToken: `token-${number}`,
  refreshToken: `refresh-${number}`,
  expiresAt: inADay(),
});
/** The same pair in the form in which the service sends it. */
const answerOf = (number: number) => ({ ...pairOf(number), expiresAt: timestampFromDate(inADay()) });
const tokenOf = ({ requestHeader }: HandlerContext) => requestHeader.get("authorization")?.replace("Bearer ", "") ?? "";

/** A passport at a service that gives a new pair for each refresh token. */
function openPassport() {
  const refreshed: string[] = [];
  const transport = createRouterTransport((router) => {
    router.service(AdminService, {
      refreshToken: ({ refreshToken }) => {
        refreshed.push(refreshToken);
        return answerOf(refreshed.length);
      },
    });
    router.service(NodeService, {});
  });
  const passport = createPassport({
    nodes: createClient(NodeService, transport),
    admin: createClient(AdminService, transport),
    credentials: createMemoryCredentials("node_traveller", pairOf(0)),
    enrollmentToken: undefined,
    now: systemClock.now,
  });
  return { passport, refreshed };
}

test("is renewed once, however many ask at the same time", async () => {
  const { passport, refreshed } = openPassport();
  passport.refused("token-0");
  expect(await Promise.all([passport.token(), passport.token(), passport.token()])).toEqual(
    Array.from({ length: 3 }, () => "token-1"),
  );
  expect(refreshed).toEqual(["refresh-0"]);
});

test("takes a late word on a former token for what it is", async () => {
  const { passport, refreshed } = openPassport();
  passport.refused("token-0");
  await passport.token();
  passport.refused("token-1");
  passport.refused("token-0");
  expect(await passport.token()).toBe("token-2");
  passport.refused("token-1");
  expect(await passport.token()).toBe("token-2");
  expect(refreshed).toEqual(["refresh-0", "refresh-1"]);
});

const ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** A service that takes the first token for a stream but for no proof, and cuts the stream on the first refresh. */
async function openService() {
  const shown = { streams: [] as string[], proofs: [] as string[], refreshes: [] as string[] };
  const cut = Promise.withResolvers<void>();
  const renewal = Promise.withResolvers<void>();
  const adapter = connectNodeAdapter({
    routes: (router) => {
      router.service(AdminService, {
        refreshToken: async ({ refreshToken }) => {
          shown.refreshes.push(refreshToken);
          cut.resolve();
          await renewal.promise;
          return answerOf(shown.refreshes.length);
        },
      });
      router.service(NodeService, {
        heartbeat: async function* (_requests, context) {
          shown.streams.push(tokenOf(context));
          yield { message: { case: "welcome", value: { sessionEpoch: 1n, desiredStatus: NodeStatus.ACTIVE } } };
          if (shown.streams.length === 1) await cut.promise;
        },
      });
      router.service(PoOTService, {
        issuePoOTChallenge: (_request, context) => {
          shown.proofs.push(tokenOf(context));
          if (tokenOf(context) === "token-0") throw new ConnectError("revoked", Code.Unauthenticated);
          throw new ConnectError("no challenge for this test", Code.PermissionDenied);
        },
      });
    },
  });
  const server = createHttp2Server({}, adapter);
  const sessions = new Set<Http2Session>();
  server.on("session", (session) => sessions.add(session));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  ends.push(() => {
    for (const session of sessions) session.destroy();
    return new Promise((resolve) => server.close(resolve));
  });
  return {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    shown,
    cut: cut.promise,
    renew: renewal.resolve,
  };
}

test("a token that was refused to the prover is shown by no stream, and there is one renewal for both", async () => {
  const service = await openService();
  const { shown } = service;
  const control = new AbortController();
  let attempts = 0;
  const end = runMachineAgent(
    {
      baseUrl: service.baseUrl,
      credentials: createMemoryCredentials("node_traveller", pairOf(0)),
      onState: (state) => {
        if (state === "connecting") attempts++;
      },
      prove: { produce: async () => new Uint8Array(1), onProof: () => undefined, onProblem: () => undefined },
    },
    control.signal,
  );
  ends.push(() => {
    control.abort();
    service.renew();
    return within(end, "the agent leaves");
  });
  await within(service.cut, "the prover is refused, and asks for another token");
  await until(() => attempts === 2, "the agent wants a new stream meanwhile");
  service.renew();
  await until(() => shown.streams.length >= 2 && shown.proofs.length >= 2, "both go on");
  expect(shown.streams.slice(0, 2)).toEqual(["token-0", "token-1"]);
  expect(shown.proofs.slice(0, 2)).toEqual(["token-0", "token-1"]);
  expect(shown.refreshes).toEqual(["refresh-0"]);
});
