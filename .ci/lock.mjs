// Keeps package-lock.json whole on machines whose registry lacks other platforms' binaries: npm leaves those out of the
// lock there, and `npm ci` then refuses it everywhere. Run without arguments after each change of dependencies; with
// --check it only says whether anything is missing.
import { readFileSync, writeFileSync } from "node:fs";

const file = "package-lock.json";
const lock = JSON.parse(readFileSync(file, "utf8"));
/** The platform in the name of a binary's package, as npm's fields spell it. */
const platforms = { darwin: "darwin", linux: "linux", win32: "win32", freebsd: "freebsd" };
const processors = { x64: "x64", arm64: "arm64", aarch64: "arm64", armv7: "arm", ia32: "ia32" };

const missing = [];
for (const [path, entry] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const found = [`${path}/node_modules/${name}`, `node_modules/${name}`].some((place) => lock.packages[place]);
    if (!found) missing.push({ name, version, dev: entry.dev });
  }
}
for (const { name, version, dev } of missing) {
  const parts = name.split(/[-/]/);
  const os = parts.map((part) => platforms[part]).find(Boolean);
  const cpu = parts.map((part) => processors[part]).find(Boolean);
  lock.packages[`node_modules/${name}`] = {
    version,
    ...(cpu ? { cpu: [cpu] } : {}),
    ...(dev ? { dev: true } : {}),
    ...(parts.includes("musl") ? { libc: ["musl"] } : {}),
    optional: true,
    ...(os ? { os: [os] } : {}),
  };
}
if (process.argv.includes("--check")) {
  for (const { name } of missing) console.error(`package-lock.json lacks ${name}: run node .ci/lock.mjs`);
  process.exitCode = missing.length === 0 ? 0 : 1;
} else if (missing.length > 0) {
  const [root, ...rest] = Object.entries(lock.packages);
  rest.sort(([a], [b]) => a.localeCompare(b, "en"));
  lock.packages = Object.fromEntries([root, ...rest]);
  writeFileSync(file, `${JSON.stringify(lock, undefined, 2)}\n`);
  console.log(`added ${missing.length} entries`);
}
