// The keys of the service: from the settings, or else, outside production, made once and kept in DATA_DIR, so that
// after a restart tokens stay valid and sealed text readable.
import { randomBytes } from "node:crypto";
import { statSync } from "node:fs";
import { join } from "node:path";
import { hmac } from "../crypto.js";
import { StartError } from "../start-error.js";
import { createStateFile, makeFolder, parseStateFile, readStateFile } from "../state-file.js";
import type { KeyRings } from "./jwt.js";
import { isEncryptionKey, keyRingWeakness, parseKeyRing } from "./keyring.js";

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

export interface SecretSettings {
  readonly dataDir: string;
  readonly jwtSecretKey: string | undefined;
  readonly jwtPrivilegedSecretKey: string | undefined;
  readonly encryptionKey: string | undefined;
  /** Whether the group of secrets.json may read it, as with a secret that Kubernetes mounts. */
  readonly secretsGroupReadable?: boolean;
  /** Makes new keys even if there is a store whose texts and tokens were made with other keys. */
  readonly newSecretsAllowed?: boolean;
}

interface Kept {
  readonly jwt_secret_key: string;
  readonly encryption_key: string;
}

/** @throws StartError when the kept keys cannot be used; they are left as they are */
export function loadSecrets(settings: SecretSettings): Secrets {
  const incomplete = settings.jwtSecretKey === undefined || settings.encryptionKey === undefined;
  const kept = incomplete ? keep(settings) : undefined;
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

const remedy =
  "restore it from the backup of DATA_DIR, or, to give up all tokens and sealed payout addresses, move it away and start " +
  "once with ALLOW_NEW_SECRETS=true";

/** Reads the file, or makes it. Two processes at the same time end up with the same file. */
function keep(settings: SecretSettings): Kept {
  const file = join(settings.dataDir, "secrets.json");
  const read = () =>
    readStateFile(file, { readers: "owner", groupReadable: settings.secretsGroupReadable ?? false, remedy });
  makeFolder(settings.dataDir);
  const text = read();
  if (text !== undefined) return checked(file, text);
  // Another process may have made both files meanwhile.
  if (storeExists(settings.dataDir) && settings.newSecretsAllowed !== true) return checked(file, read());
  const fresh: Kept = {
    jwt_secret_key: randomBytes(48).toString("base64url"),
    encryption_key: randomBytes(32).toString("base64"),
  };
  createStateFile(file, JSON.stringify(fresh));
  return checked(file, read());
}

function checked(file: string, text: string | undefined): Kept {
  const refuse = (problem: string) => new StartError(`${file} ${problem}; ${remedy}`);
  if (text === undefined) throw refuse("is missing, and the store beside it was made with its keys");
  const { jwt_secret_key, encryption_key } = parseStateFile(file, text, remedy);
  if (jwt_secret_key === undefined) throw refuse("is damaged: it has no jwt_secret_key");
  if (encryption_key === undefined) throw refuse("is damaged: it has no encryption_key");
  const weakness = keyRingWeakness(jwt_secret_key);
  if (weakness !== undefined) throw refuse(`is damaged: jwt_secret_key ${weakness}`);
  if (!isEncryptionKey(encryption_key)) throw refuse("is damaged: encryption_key is not the base64 of 32 bytes");
  return { jwt_secret_key, encryption_key };
}

const storeExists = (dataDir: string): boolean =>
  (statSync(join(dataDir, "lucid.db"), { throwIfNoEntry: false })?.size ?? 0) > 0;
