// Checks that what `make build` makes is there and no older than its sources.
import { readdirSync, statSync } from "node:fs";

const root = new URL("../..", import.meta.url).pathname;

export const commandLine = `${root}dist/src/cli/lucid-node.js`;

/** @throws Error that names a source which dist/ does not know yet */
export function requireBuilt(): void {
  for (const directory of ["src", "gen"]) {
    const files = readdirSync(root + directory, { recursive: true, encoding: "utf8" });
    for (const file of files.filter((name) => name.endsWith(".ts") && !name.startsWith("client/dist/"))) {
      const compiled = statSync(`${root}dist/${directory}/${file.replace(/ts$/, "js")}`, { throwIfNoEntry: false });
      const fresh = compiled !== undefined && compiled.mtimeMs >= statSync(`${root}${directory}/${file}`).mtimeMs;
      if (!fresh) throw new Error(`dist/ is older than ${directory}/${file}: run make build`);
    }
  }
}
