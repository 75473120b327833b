// Writes version after version of a small file, by default without end, and prints each version that is on disk.
// Argument: the file.
import { writeSync } from "node:fs";
import { writeStateFile } from "../src/state-file.js";

const [file = "", count = "Infinity"] = process.argv.slice(2);
for (let version = 1; version <= Number(count); version++) {
  writeStateFile(file, JSON.stringify({ version: String(version), filler: "x".repeat(20_000) }));
  writeSync(1, `wrote ${version}\n`);
}
