// Parses the Content-Type of a request as RFC 9110, 8.3 defines it: names in any case, spaces, quotes, and empty
// parameters.

export interface MediaType {
  /** In lower case, such as "application/grpc+proto". */
  readonly type: string;
  /** In lower case, with "utf-8" for its old spelling too; undefined if none is stated. */
  readonly charset: string | undefined;
}

const token = "[!#$%&'*+.^_`|~0-9a-z-]+";
const typePattern = new RegExp(`^\\s*(${token}/${token})\\s*(?:;|$)`, "i");
const parameterPattern = new RegExp(`^\\s*(${token})\\s*=\\s*(?:(${token})|"((?:[^"\\\\]|\\\\.)*)")\\s*$`, "i");

/** Undefined for a header that is absent or malformed. */
export function mediaTypeOf(header: string | undefined): MediaType | undefined {
  const type = typePattern.exec(header ?? "")?.[1]?.toLowerCase();
  if (header === undefined || type === undefined) return undefined;
  let charset: string | undefined;
  // A quoted semicolon would be cut here, but no parameter that matters contains one.
  for (const part of header.split(";").slice(1)) {
    if (part.trim() === "") continue;
    const [, name, plain, quoted] = parameterPattern.exec(part) ?? [];
    if (name === undefined) return undefined;
    if (name.toLowerCase() === "charset") charset = (plain ?? quoted?.replace(/\\(.)/g, "$1") ?? "").toLowerCase();
  }
  return { type, charset: charset === "utf8" ? "utf-8" : charset };
}
