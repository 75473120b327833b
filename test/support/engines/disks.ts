// Disks that a test can fill and make read-only: file systems in memory, which only root may mount.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Disk extends Disposable {
  readonly path: string;
  /** Takes all the space that is left. */
  fill(): void;
  /** Gives it back. */
  free(): void;
  makeReadOnly(): void;
}

const quietly = (command: string, ...given: string[]) => void execFileSync(command, given, { stdio: "pipe" });

/** Mounted below the directory; disposing unmounts it. */
export function mountDisk(directory: string, megabytes: number): Disk {
  const path = join(directory, "disk");
  mkdirSync(path);
  quietly("mount", "-t", "tmpfs", "-o", `size=${megabytes}m,mode=755`, "lucid-test", path);
  const ballast = join(path, "ballast");
  return {
    path,
    fill: () => {
      try {
        for (;;) writeFileSync(ballast, Buffer.alloc(4096), { flag: "a" });
      } catch (error) {
        if (!(error instanceof Error && "code" in error && error.code === "ENOSPC")) throw error;
      }
    },
    free: () => rmSync(ballast),
    makeReadOnly: () => quietly("mount", "-o", "remount,ro", path),
    [Symbol.dispose]: () => quietly("umount", "-l", path),
  };
}

/** Whether this process may mount. If not, it says in capitals which tests are left out. */
export function canMount(what: string): boolean {
  const directory = mkdtempSync(join(tmpdir(), "lucid-mount-"));
  try {
    mountDisk(directory, 1)[Symbol.dispose]();
    return true;
  } catch {
    console.warn(`NOT TESTED, FOR THIS USER MAY NOT MOUNT A FILE SYSTEM: ${what}`);
    return false;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
