// A server in a process of its own, idle but for the one call: tells its port, ends with its standard input.
import { startTestServer } from "../rpc/harness.js";

const server = await startTestServer();
process.stdout.write(`port ${server.port}\n`);
process.stdin.resume().on("end", () => process.exit(0));
