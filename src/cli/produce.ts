// Runs the operator's command that produces a node's output: in a shell, with a time limit, and killed together with
// its children.
import { spawn } from "node:child_process";
import type { Clock } from "../clock.js";

const outputBytesMax = 1024 * 1024;
const limitMs = 60_000;

/**
 * The command's output, 1 byte to 1 MiB. Its first parameter ($1) is the proof's nonce. After 60 s, or when the signal
 * aborts, the command and its children are killed.
 * @throws Error when it fails, prints nothing or too much, or is not done in time
 */
export async function outputOf(
  command: string,
  seed: string,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<Uint8Array<ArrayBuffer>> {
  const child = spawn("/bin/sh", ["-c", command, "lucid-node", seed], {
    stdio: ["ignore", "pipe", "ignore"],
    detached: true,
  });
  const over = new AbortController();
  const kill = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    } catch {
      // All of them have ended.
    }
  };
  // Nobody would stop commands that outlive this process.
  process.on("exit", kill);
  try {
    return await new Promise((resolve, reject) => {
      const fail = (why: string) => reject(new Error(`The command did not produce: ${why}`));
      const pieces: Buffer[] = [];
      let bytes = 0;
      child.stdout.on("data", (piece: Buffer) => {
        bytes += piece.length;
        if (bytes > outputBytesMax) fail(`it printed more than ${outputBytesMax} bytes`);
        else pieces.push(piece);
      });
      child.once("error", (error) => fail(error.message));
      child.once("close", (code, ended) => {
        if (code === 0 && bytes > 0) resolve(new Uint8Array(Buffer.concat(pieces)));
        else fail(code === 0 ? "it printed nothing" : `it ended with ${code ?? ended}`);
      });
      void clock.sleep(limitMs, AbortSignal.any([signal, over.signal])).then(() => {
        fail(signal.aborted ? "the agent stops" : `it was not done within ${limitMs} ms`);
      });
    });
  } finally {
    over.abort();
    kill();
    child.stdout.destroy();
    child.unref();
    process.off("exit", kill);
  }
}
