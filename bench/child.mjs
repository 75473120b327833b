// Runs servers as separate processes on the first core and measures their cost; the client stays on the second core.
import { execFileSync, fork } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";

const pinned = canPin();

function canPin() {
  try {
    execFileSync("taskset", ["--version"], { stdio: "ignore" });
    return availableParallelism() > 1;
  } catch {
    return false;
  }
}

/** Pins this process to the second core; false if that is impossible, and the figures are then rougher. */
export function pinClient() {
  if (pinned) execFileSync("taskset", ["-a", "-cp", "1", String(process.pid)], { stdio: "ignore" });
  return pinned;
}

/** Starts bench/servers/{name}.mjs, which reports its port. */
export async function startServer(name, env = {}) {
  const file = fileURLToPath(new URL(`servers/${name}.mjs`, import.meta.url));
  const child = fork(file, {
    execArgv: ["--expose-gc"],
    env: { PATH: process.env.PATH ?? "", HOME: process.env.HOME ?? "", ...env },
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  if (pinned) execFileSync("taskset", ["-a", "-cp", "0", String(child.pid)], { stdio: "ignore" });
  const told = (ask) =>
    new Promise((resolve, reject) => {
      child.once("message", resolve);
      child.once("exit", (code) => reject(new Error(`${name} ended with ${code}`)));
      if (ask !== undefined) child.send(ask);
    });
  const { port, metricsPort } = await told();
  return {
    name,
    port,
    metricsPort,
    cpuNs: () => cpuNsOf(child.pid),
    /** Bytes in use after a garbage collection. */
    memory: () => told("memory"),
    stop: () =>
      new Promise((resolve) => {
        child.once("exit", resolve);
        child.kill("SIGKILL");
      }),
  };
}

/** CPU time of all its threads, in nanoseconds. */
function cpuNsOf(pid) {
  const spent = (thread) => {
    try {
      return Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]);
    } catch {
      // A thread may end between the listing and this read.
      return 0;
    }
  };
  return readdirSync(`/proc/${pid}/task`).reduce((sum, thread) => sum + spent(thread), 0);
}
