// Writes one version after another of a small file, without an end; says on standard output which one is on disk.
// Argument: the file.
import { writeSync } from "node:fs";
import { writeStateFile } from "../src/state-file.js";

const [file = "", count = "Infinity"] = process.argv.slice(2);
for (let version = 1; version <= Number(count); version++) {
  writeStateFile(file, JSON.stringify({ version: String(version), filler: "x".repeat(20_000) }));
  writeSync(1, `wrote ${version}\n`);
}
