// Makes gen/ from proto/ and from the standard gRPC protos that npm packages carry. Offline; its output is committed.
// With --check it generates into a folder of its own, says how gen/ differs from that, and leaves gen/ alone.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";

const standard = [
  ["grpc-health-check/proto/health/v1/health.proto", "grpc/health/v1/health.proto"],
  ["@grpc/reflection/build/proto/grpc/reflection/v1/reflection.proto", "grpc/reflection/v1/reflection.proto"],
  ["@grpc/reflection/build/proto/grpc/reflection/v1alpha/reflection.proto", "grpc/reflection/v1alpha/reflection.proto"],
];

/** Empties `gen/` below the directory, then writes it. */
function generate(directory) {
  rmSync("build/proto", { recursive: true, force: true });
  for (const [from, to] of standard) {
    mkdirSync(`build/proto/${to.slice(0, to.lastIndexOf("/"))}`, { recursive: true });
    cpSync(`node_modules/${from}`, `build/proto/${to}`);
  }
  execFileSync("buf", ["generate", "--output", directory], { stdio: "inherit" });
}

/** Path to content of each file below the directory. */
const contentOf = (directory) =>
  new Map(
    readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .map((file) => [relative(directory, file), readFileSync(file, "utf8")]),
  );

/** One line for each file that is missing, too many or not the same. */
function differences(found, generated) {
  const files = [...new Set([...found.keys(), ...generated.keys()])].sort();
  return files.flatMap((file) => {
    if (!generated.has(file)) return [`gen/${file} comes from no .proto`];
    if (!found.has(file)) return [`gen/${file} is missing`];
    return found.get(file) === generated.get(file) ? [] : [`gen/${file} is not what its .proto generates`];
  });
}

if (process.argv.includes("--check")) {
  const directory = mkdtempSync(join(tmpdir(), "lucid-generated-"));
  try {
    generate(directory);
    const wrong = differences(contentOf("gen"), contentOf(join(directory, "gen")));
    for (const line of wrong) console.error(line);
    if (wrong.length > 0) {
      console.error("run make generate");
      process.exitCode = 1;
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
} else {
  generate(".");
}
