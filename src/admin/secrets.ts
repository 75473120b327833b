// The keys of the service: as set, else, outside production, made once and kept in DATA_DIR, so that a restart keeps
// tokens valid and sealed text readable.
import { randomBytes } from "node:crypto";
import { linkSync, mkdirSync, readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { hmac } from "../crypto.js";
import type { KeyRings, SigningKey } from "./jwt.js";

export interface Secrets {
  readonly rings: KeyRings;
  /** Base64 of 32 bytes. */
  readonly encryptionKey: string;
  /** Signs enrolment challenges. */
  readonly challengeKey: Uint8Array;
  /** Signs the nonces that PoOT issues. */
  readonly pootChallengeKey: Uint8Array;
  /** Signs page tokens. */
  readonly pageTokenKey: Uint8Array;
}

interface Kept {
  readonly jwt_secret_key: string;
  readonly encryption_key: string;
}

export function loadSecrets(settings: {
  readonly dataDir: string;
  readonly jwtSecretKey: string | undefined;
  readonly jwtPrivilegedSecretKey: string | undefined;
  readonly encryptionKey: string | undefined;
  readonly parseKeyRing: (ring: string) => SigningKey[];
}): Secrets {
  const { parseKeyRing } = settings;
  const incomplete = settings.jwtSecretKey === undefined || settings.encryptionKey === undefined;
  const kept = incomplete ? keep(join(settings.dataDir, "secrets.json")) : undefined;
  const common = parseKeyRing(settings.jwtSecretKey ?? kept?.jwt_secret_key ?? "");
  const encryptionKey = settings.encryptionKey ?? kept?.encryption_key ?? "";
  return {
    rings: {
      common,
      privileged:
        settings.jwtPrivilegedSecretKey === undefined ? undefined : parseKeyRing(settings.jwtPrivilegedSecretKey),
    },
    encryptionKey,
    challengeKey: hmac(Buffer.from(encryptionKey, "base64"), "challenge"),
    pootChallengeKey: hmac(Buffer.from(encryptionKey, "base64"), "poot challenge"),
    pageTokenKey: hmac(Buffer.from(encryptionKey, "base64"), "page token"),
  };
}

/** Reads the file, or makes it. Two processes at once end up with the same one: a link takes no name that exists. */
function keep(file: string): Kept {
  mkdirSync(join(file, ".."), { recursive: true, mode: 0o700 });
  const fresh: Kept = {
    jwt_secret_key: randomBytes(48).toString("base64url"),
    encryption_key: randomBytes(32).toString("base64"),
  };
  const draft = `${file}.${process.pid}`;
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Kept;
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
  writeFileSync(draft, JSON.stringify(fresh), { mode: 0o600, flag: "w" });
  try {
    linkSync(draft, file);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
  } finally {
    unlinkSync(draft);
  }
  return JSON.parse(readFileSync(file, "utf8")) as Kept;
}

const isMissing = (error: unknown) => error instanceof Error && "code" in error && error.code === "ENOENT";
