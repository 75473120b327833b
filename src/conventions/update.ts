// Updates: a mask names what to change, a named path without a value clears the field, and a caller may insist on the
// version that it has seen.
import type { FieldMask } from "@bufbuild/protobuf/wkt";
import { malformed, versionMismatch } from "../failure.js";

/** The paths of the mask, each once. @throws Failure 4001 when the mask is empty or names any other path */
export function maskedPaths<Path extends string>(mask: FieldMask | undefined, allowed: readonly Path[]): Set<Path> {
  const paths = mask?.paths ?? [];
  if (paths.length === 0)
    throw malformed({ field: "update_mask", description: `name one or more of ${allowed.join(", ")}` });
  const unknown = paths.filter((path) => !(allowed as readonly string[]).includes(path));
  if (unknown.length > 0) {
    throw malformed(
      ...unknown.map((path) => ({
        field: "update_mask",
        description: `${path.slice(0, 100)} is unknown or cannot be updated; allowed are ${allowed.join(", ")}`,
      })),
    );
  }
  return new Set(paths as Path[]);
}

/** @throws Failure 5012 when the caller expects another version */
export function checkVersion(expected: bigint | undefined, found: { readonly version: number }): void {
  if (expected !== undefined && expected !== BigInt(found.version)) {
    throw versionMismatch(expected, BigInt(found.version));
  }
}
