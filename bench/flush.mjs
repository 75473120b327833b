// The cost for this process of writing a fleet's last-seen times to MongoDB, compared with the driver's bulkWrite of
// the same updates. Only this process's CPU counts: the server is another process, and may be a stand-in for MongoDB.
import { spawn } from "node:child_process";
import { accessSync, constants, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { MongoClient } from "mongodb";
import { createNodeRepository } from "../dist/src/nodes/repository.js";
import { openMongoStore } from "../dist/src/storage/mongo/store.js";

const batch = 1000;

/** Microseconds of CPU per node and round, for ours and the reference; undefined if there is no MongoDB. */
export async function measureFlush({ nodes, rounds }) {
  const server = await startMongo();
  if (server === undefined) return undefined;
  const raw = new MongoClient(server.url, { writeConcern: { w: "majority", journal: true } });
  try {
    await using store = await openMongoStore({ url: server.url, database: "bench", operationMs: 60_000 });
    const repository = await createNodeRepository(store);
    const collection = raw.db("bench").collection("nodes");
    const ids = Array.from({ length: nodes }, (_, place) => `node_${String(place).padStart(26, "0")}`);
    for (let from = 0; from < nodes; from += batch) {
      await collection.insertMany(ids.slice(from, from + batch).map((id) => aNode(id)));
    }
    // Only the server pays for indexes, but with the stand-in that takes minutes.
    await collection.dropIndexes();
    const sessions = ids.map((nodeId) => ({ nodeId, epoch: 1, lastHeardAt: new Date() }));
    const cells = {
      ours: (part) =>
        repository.flush(part.map((one) => ({ nodeId: one.nodeId, epoch: one.epoch, at: one.lastHeardAt }))),
      reference: (part) =>
        collection.bulkWrite(
          part.map((one) => ({
            updateOne: {
              filter: { _id: one.nodeId, session_epoch: one.epoch },
              update: { $set: { last_heartbeat: one.lastHeardAt } },
            },
          })),
          { ordered: false },
        ),
    };
    const costs = { ours: [], reference: [] };
    // The first round of each is a warm-up.
    for (let round = 0; round <= rounds; round++) {
      for (const [name, write] of Object.entries(cells)) {
        for (const session of sessions) session.lastHeardAt = new Date();
        const before = process.cpuUsage();
        for (let from = 0; from < nodes; from += batch) await write(sessions.slice(from, from + batch));
        const { user, system } = process.cpuUsage(before);
        if (round > 0) costs[name].push((user + system) / nodes);
      }
    }
    return { ...costs, server: server.name };
  } finally {
    await raw.close();
    await server.stop();
  }
}

const aNode = (_id) => ({
  _id,
  name: _id,
  status: "active",
  connectivity: "connected",
  live: true,
  session_epoch: 1,
  last_heartbeat: new Date(0),
  created_at: new Date(0),
  poot_score: -1,
});

/** MONGODB_TEST_URL, else mongod on the PATH, else the stand-in that `make tools` installs. */
export async function startMongo() {
  const given = process.env.MONGODB_TEST_URL;
  if (given !== undefined) return { url: given, name: "MONGODB_TEST_URL", stop: async () => undefined };
  const directory = mkdtempSync(join(tmpdir(), "lucid-bench-mongo-"));
  const port = await sparePort();
  const tools = process.env.LUCID_TOOLS ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "lucid-tools");
  const listening = ["--port", String(port)];
  const known = [
    ...(process.env.PATH ?? "")
      .split(":")
      .map((place) => [join(place, "mongod"), "mongod", ["--dbpath", directory, "--bind_ip", "127.0.0.1"]]),
    [
      join(tools, "python/bin/secantusd-py"),
      "SecantusDB",
      ["--storage-path", directory, "--host", "127.0.0.1", "--log-level", "ERROR"],
    ],
  ];
  const found = known.find(([file]) => isProgram(file));
  if (found === undefined) return undefined;
  const [file, name, options] = found;
  const child = spawn(file, [...options, ...listening], { stdio: "ignore" });
  const end = new Promise((resolve) => child.once("exit", resolve));
  const stop = async () => {
    child.kill("SIGKILL");
    await end;
    rmSync(directory, { recursive: true, force: true });
  };
  const url = `mongodb://127.0.0.1:${port}/?directConnection=true`;
  const client = new MongoClient(url, { serverSelectionTimeoutMS: 30_000 });
  await client
    .connect()
    .catch((error) => stop().then(() => Promise.reject(error)))
    .finally(() => client.close());
  return { url, name, stop };
}

function isProgram(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function sparePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
