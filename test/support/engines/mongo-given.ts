// The MongoDB that MONGODB_TEST_URL names, for what no stand-in can prove: elections, MongoDB's planner, index builds
// that take minutes.
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { type Db, type Document, MongoClient } from "mongodb";
import { until } from "../world/until.js";

const url = process.env.MONGODB_TEST_URL;

export interface GivenMongo extends AsyncDisposable {
  readonly url: string;
  readonly name: string;
  /** Dropped at the end. */
  readonly database: Db;
  /** Makes the primary step down; resolves when there is a primary again. */
  stepDown(): Promise<void>;
}

/** Whether MONGODB_TEST_URL names a server; says SKIPPED otherwise. */
export function isMongoGiven(tests: string): boolean {
  if (url !== undefined) return true;
  process.stderr.write(
    `SKIPPED: ONLY A MONGODB REPLICA SET CAN SETTLE IT, AND MONGODB_TEST_URL NAMES NONE: ${tests}\n`,
  );
  return false;
}

/** Ask `isMongoGiven` first. @throws Error when it is no replica set */
export async function openGivenMongo(): Promise<GivenMongo> {
  if (url === undefined) throw new Error("MONGODB_TEST_URL is not given");
  const client = new MongoClient(url, { appName: "lucid-test", serverSelectionTimeoutMS: 60_000 });
  const admin = client.db("admin");
  const { version, secantusVersion } = await admin.command({ buildInfo: 1 });
  const { setName } = await admin.command({ hello: 1 });
  const database = client.db(`lucid_${randomBytes(8).toString("hex")}`);
  if (secantusVersion === undefined && setName === undefined) {
    await client.close();
    throw new Error("MONGODB_TEST_URL names no replica set");
  }
  if (secantusVersion !== undefined) process.stderr.write("REHEARSED ONLY: SecantusDB HOLDS NO ELECTIONS\n");
  return {
    url,
    name: secantusVersion === undefined ? `mongod ${version}` : `SecantusDB ${secantusVersion}`,
    database,
    stepDown: () => (secantusVersion === undefined ? stepDown(admin) : refuseForAWhile(admin)),
    [Symbol.asyncDispose]: async () => {
      await database.dropDatabase();
      await client.close();
    },
  };
}

async function stepDown(admin: Db): Promise<void> {
  const electionOf = async (): Promise<string> => {
    const { isWritablePrimary, electionId } = await admin.command({ hello: 1 });
    return isWritablePrimary === true ? String(electionId) : "";
  };
  const before = await electionOf();
  // The primary may close its connections before it answers. A set of one member elects the same member again.
  await admin.command({ replSetStepDown: 1, secondaryCatchUpPeriodSecs: 0, force: true }).catch(() => undefined);
  const isElected = async () => {
    const now = await electionOf().catch(() => "");
    return now !== "" && now !== before;
  };
  await until(isElected, "a new primary", 60_000);
}

/** Shows the store what it would see of an election, on a stand-in that holds no elections. */
async function refuseForAWhile(admin: Db): Promise<void> {
  const fail = (mode: string, data: Document = {}) =>
    admin.command({ configureFailPoint: "failCommand", mode, ...data });
  const failCommands = ["insert", "update", "delete", "findAndModify", "find", "aggregate"];
  await fail("alwaysOn", { data: { failCommands, errorCode: 10107, appName: "lucid-node" } });
  await delay(1500);
  await fail("off");
}
