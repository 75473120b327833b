// A server in a process of its own, idle except for the one call. It prints its port, and ends when its input ends.
import { startTestServer } from "../rpc/harness.js";

const server = await startTestServer();
process.stdout.write(`port ${server.port}\n`);
process.stdin.resume().on("end", () => process.exit(0));
