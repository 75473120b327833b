// The program of a helper process: reads one part of the machine, says it to its parent and ends. The parts run commands
// (lsblk, dmidecode) or ask a disk, and any of these may hang, some while they block this whole process. Imports nothing of
// ours, so that Node.js also runs it as TypeScript.
import { statfs } from "node:fs/promises";
import si from "systeminformation";

/** Bytes of each mounted file system that may be asked; `paths` is a JSON array of mount points. */
const fileSystems = async (paths: string) => {
  const answers = (JSON.parse(paths) as string[]).map(async (path) => {
    const { bsize, blocks, bfree } = await statfs(path);
    return { path, totalBytes: bsize * blocks, freeBytes: bsize * bfree };
  });
  // A mount in a directory that is closed to this user, or one that has gone meanwhile, hides none of the others.
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

/** What each part answers. */
export type Parts = { readonly [Name in keyof typeof parts]: Awaited<ReturnType<(typeof parts)[Name]>> };

// The parent is gone: whatever hangs here goes with it, and so do our own commands, which share our process group.
process.on("disconnect", () => process.kill(-process.pid, "SIGKILL"));

const [name = "", argument = ""] = process.argv.slice(2);
const found = await parts[name as keyof Parts](argument);
process.send?.(found, () => process.exit(0));
