// The program of a helper process: reads one part of the machine, sends it to its parent and exits. The parts run
// commands (lsblk, dmidecode) or query a disk. Any of these may hang, and some block this whole process. It imports
// nothing of ours, so that Node.js can also run it as TypeScript.
import { statfs } from "node:fs/promises";
import si from "systeminformation";

/** Bytes of each mounted file system that may be queried; `paths` is a JSON array of mount points. */
const fileSystems = async (paths: string) => {
  const answers = (JSON.parse(paths) as string[]).map(async (path) => {
    const { bsize, blocks, bfree } = await statfs(path);
    return { path, totalBytes: bsize * blocks, freeBytes: bsize * bfree };
  });
  // A mount that this user has no access to, or that has just been unmounted, does not affect the others.
  return (await Promise.allSettled(answers)).flatMap((answer) => (answer.status === "fulfilled" ? answer.value : []));
};

const parts = {
  fileSystems,
  processorLoad: () => si.currentLoad(),
  memory: () => si.mem(),
  fsSize: () => si.fsSize(),
  networkStats: () => si.networkStats("*"),
  processor: () => si.cpu(),
  memoryLayout: () => si.memLayout(),
  disks: () => si.diskLayout(),
  graphics: () => si.graphics(),
  networkInterfaces: () => si.networkInterfaces(),
};

/** The result of each part. */
export type Parts = { readonly [Name in keyof typeof parts]: Awaited<ReturnType<(typeof parts)[Name]>> };

// The parent is gone. Kill this process and all its commands: they share the process group.
process.on("disconnect", () => process.kill(-process.pid, "SIGKILL"));

const [name = "", argument = ""] = process.argv.slice(2);
const found = await parts[name as keyof Parts](argument);
process.send?.(found, () => process.exit(0));
