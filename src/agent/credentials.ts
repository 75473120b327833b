// Who an agent is: its own Ed25519 key, the node it was enrolled as, and its tokens, in a file only its owner can read.
// The key never leaves the machine. It alone brings the node back when all tokens have run out.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

export interface NodeTokens {
  readonly accessToken: string;
  readonly refreshToken: string;
  readonly expiresAt: Date;
}

export interface Identity {
  readonly nodeId: string;
  /** Raw 32 bytes. */
  readonly publicKey: Uint8Array;
  sign(message: Uint8Array): Uint8Array;
}

export interface Credentials {
  readonly identity: Identity;
  tokens(): NodeTokens | undefined;
  keep(tokens: NodeTokens): void;
}

interface CredentialsFile {
  readonly node_id: string;
  readonly private_key: string;
  readonly access_token?: string;
  readonly refresh_token?: string;
  readonly expires_at?: string;
}

const identityOf = (nodeId: string, privateKey: KeyObject): Identity => ({
  nodeId,
  publicKey: createPublicKey(privateKey).export({ format: "der", type: "spki" }).subarray(-32),
  sign: (message) => sign(null, message, privateKey),
});

/** Credentials that live as long as the process. */
export function createMemoryCredentials(nodeId: string, first?: NodeTokens): Credentials {
  let held = first;
  const identity = identityOf(nodeId, generateKeyPairSync("ed25519").privateKey);
  return {
    identity,
    tokens: () => held,
    keep: (tokens) => {
      held = tokens;
    },
  };
}

/** The credentials of the file; undefined when there is none. @throws when it is not readable as such */
export function loadCredentials(file: string): Credentials | undefined {
  if (!existsSync(file)) return undefined;
  chmodSync(file, 0o600);
  return openFile(file, JSON.parse(readFileSync(file, "utf8")) as CredentialsFile);
}

/** Makes a key for that node and keeps it. */
export function createCredentials(file: string, nodeId: string): Credentials {
  const { privateKey } = generateKeyPairSync("ed25519");
  const content: CredentialsFile = {
    node_id: nodeId,
    private_key: privateKey.export({ format: "der", type: "pkcs8" }).toString("base64"),
  };
  write(file, content);
  return openFile(file, content);
}

function openFile(file: string, first: CredentialsFile): Credentials {
  let content = first;
  const key = createPrivateKey({ key: Buffer.from(content.private_key, "base64"), format: "der", type: "pkcs8" });
  return {
    identity: identityOf(content.node_id, key),
    tokens: () => {
      const { access_token: accessToken, refresh_token: refreshToken, expires_at: expiresAt } = content;
      if (accessToken === undefined || refreshToken === undefined || expiresAt === undefined) return undefined;
      return { accessToken, refreshToken, expiresAt: new Date(expiresAt) };
    },
    keep: ({ accessToken, refreshToken, expiresAt }) => {
      content = {
        ...content,
        access_token: accessToken,
        refresh_token: refreshToken,
        expires_at: expiresAt.toISOString(),
      };
      write(file, content);
    },
  };
}

/** Whole or not at all: a crash in between leaves the former file. */
function write(file: string, content: CredentialsFile): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, `${JSON.stringify(content, undefined, 2)}\n`, { mode: 0o600 });
  renameSync(draft, file);
}
