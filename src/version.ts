// The version of this package.
import { readFileSync } from "node:fs";
import { findPackageJSON } from "node:module";

/** For example "1.0.0", read from the package.json of the clone or of the installed package. */
export function packageVersion(): string {
  const file = findPackageJSON(import.meta.url);
  if (file === undefined) throw new Error("The package has no package.json");
  return JSON.parse(readFileSync(file, "utf8")).version;
}
