// Late verdicts, and beats that other clocks have dated.
import { describe, expect, test } from "vitest";
import { createNodeRepository, unaryReplica } from "../../../src/nodes/repository.js";
import { createExpire } from "../../../src/nodes/silence/expire.js";
import { createTestClock } from "../../support/world/clock.js";
import { aNodeDocument } from "../../support/world/documents.js";
import { openWorld } from "../../support/world/world.js";

describe("the leader's verdict on a node without a stream", () => {
  test.each([-5_000, 5_000])("does not stand beside a beat that is dated %i ms from the one it knows", async (ms) => {
    await using world = await openWorld();
    const repository = await createNodeRepository(world.store);
    const clock = createTestClock();
    const heardAt = clock.now();
    const nodeId = "node_00000000000000000000000001";
    const silent = { nodeId, epoch: 1, replica: unaryReplica, heardAt };
    const session = { session_epoch: 1, session_replica: unaryReplica, last_heartbeat: heardAt } as const;
    await repository.insert(aNodeDocument({ _id: nodeId, connectivity: "connected", ...session }));
    const withholdsLoss = async () => undefined;
    const expire = createExpire({ repository, clock, withholdsLoss });
    await repository.flush([{ nodeId, epoch: 1, at: new Date(heardAt.getTime() + ms) }]);
    expect(await expire(silent, "disconnected", () => true, 1)).toEqual({ kind: "moved" });
    await repository.flush([{ nodeId, epoch: 1, at: heardAt }]);
    expect(await expire(silent, "disconnected", () => true, 1)).toMatchObject({ kind: "expired" });
  });
});
