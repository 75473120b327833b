// The service refuses a call before it reads the body. The refusal must still reach the client. curl shows a reset that
// overtakes the answer; Node's own client happens to hide it.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { getNodePath } from "../rpc/harness.js";
import { startChild } from "../support/fleet/child.js";
import { toolFor } from "../support/tools.js";

const curl = toolFor("refusals over HTTP/2", "curl");
const run = promisify(execFile);

/** The status of the answer to a POST, or how curl ended. */
function post(port: number, path: string): Promise<string> {
  const request = ["-H", "content-type: application/json", "-d", '{"node_id":"node_12345"}'];
  const show = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10", "--http2-prior-knowledge"];
  return run(curl ?? "", [...show, ...request, `http://127.0.0.1:${port}${path}`]).then(
    ({ stdout }) => `status ${stdout}`,
    (error: { code: number }) => `curl error ${error.code}`,
  );
}

test.runIf(curl !== undefined).each([
  ["by the gate", getNodePath, "status 401"],
  ["for its path", "/nowhere", "status 404"],
])("refused %s, requests with bodies are all answered", async (_why, path, expected) => {
  const child = startChild(new URL("refusing-server.ts", import.meta.url));
  try {
    const port = Number((await child.line((line) => line.startsWith("port "))).slice("port ".length));
    const answers = new Set<string>();
    for (let round = 0; round < 100; round++) answers.add(await post(port, path));
    expect([...answers]).toEqual([expected]);
  } finally {
    await child.kill();
  }
});
