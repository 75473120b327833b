// The agent's identity: its own Ed25519 key, the node that it was enrolled as, and its tokens, in a file that only its
// owner can read. The key never leaves the machine. The key alone is enough to bring the node back when all tokens have
// expired.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import type { TokenPair } from "../client/tokens.js";
import { sameBytes } from "../crypto.js";
import { readChallenge } from "../nodes/challenge-form.js";
import { signedText } from "../poot/verdict.js";
import { StartError } from "../start-error.js";
import { parseStateFile, probeReplaceable, readStateFile, writeStateFile } from "../state-file.js";

/**
 * Signs with the key for these uses only. Each signed text has its own prefix, and bytes from a service are never
 * signed unchanged.
 */
export interface Identity {
  readonly nodeId: string;
  /** Raw 32 bytes. */
  readonly publicKey: Uint8Array;
  /**
   * @throws UnfitChallengeError for bytes that are not an enrolment challenge for this node and this key; nothing is
   * signed then
   */
  signEnrollment(challenge: Uint8Array): Uint8Array<ArrayBuffer>;
  signProof(proof: Omit<Parameters<typeof signedText>[0], "nodeId">): Uint8Array<ArrayBuffer>;
}

export class UnfitChallengeError extends Error {
  override readonly name = "UnfitChallengeError";
}

export interface Credentials {
  readonly identity: Identity;
  tokens(): TokenPair | undefined;
  keep(tokens: TokenPair): void;
}

interface CredentialsFile {
  readonly node_id: string;
  readonly private_key: string;
  readonly access_token?: string;
  readonly refresh_token?: string;
  readonly expires_at?: string;
}

function identityOf(nodeId: string, privateKey: KeyObject): Identity {
  const publicKey = createPublicKey(privateKey).export({ format: "der", type: "spki" }).subarray(-32);
  return {
    nodeId,
    publicKey,
    signEnrollment: (challenge) => {
      const read = readChallenge(nodeId, challenge);
      if (read === undefined || !sameBytes(read.publicKey, publicKey)) {
        throw new UnfitChallengeError(
          "The service sent something to sign that is not an enrolment challenge for this node and key; it was not signed",
        );
      }
      return new Uint8Array(sign(null, challenge, privateKey));
    },
    signProof: (proof) =>
      new Uint8Array(sign(null, new TextEncoder().encode(signedText({ ...proof, nodeId })), privateKey)),
  };
}

/** Credentials that exist only as long as the process. */
export function createMemoryCredentials(nodeId: string, first?: TokenPair): Credentials {
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

export interface FileRules {
  /** Whether the file's group may read it too. */
  readonly groupReadable?: boolean;
  /** Called once when new tokens cannot be saved to the file, until saving works again. The agent goes on with them. */
  readonly onUnsaved?: (message: string) => void;
}

/**
 * The credentials in the file; undefined if it does not exist.
 * @throws StartError when the file cannot be used, or could not store new tokens; the file is left unchanged
 */
export function loadCredentials(file: string, rules: FileRules = {}): Credentials | undefined {
  const text = readStateFile(file, { readers: "owner", groupReadable: rules.groupReadable ?? false, remedy });
  if (text === undefined) return undefined;
  const content = parseStateFile(file, text, remedy);
  if (content.node_id === undefined || content.node_id === "") throw damaged(file, "it has no node_id");
  if (content.private_key === undefined) throw damaged(file, "it has no private_key");
  if (content.expires_at !== undefined && Number.isNaN(Date.parse(content.expires_at))) {
    throw damaged(file, "expires_at is not a time");
  }
  const credentials = openFile(file, content as unknown as CredentialsFile, rules);
  probeReplaceable(file);
  return credentials;
}

/** Makes a key for the node and saves it. @throws StartError when the file cannot be written */
export function createCredentials(file: string, nodeId: string, rules: FileRules = {}): Credentials {
  const { privateKey } = generateKeyPairSync("ed25519");
  const content: CredentialsFile = {
    node_id: nodeId,
    private_key: privateKey.export({ format: "der", type: "pkcs8" }).toString("base64"),
  };
  write(file, content);
  return openFile(file, content, rules);
}

const remedy =
  "restore it from a backup, or move it away and enrol the node again with a new enrolment token (after ResetEnrollment)";

const damaged = (file: string, problem: string): StartError =>
  new StartError(`${file} is damaged: ${problem}; ${remedy}`);

function openFile(file: string, first: CredentialsFile, { onUnsaved = () => undefined }: FileRules): Credentials {
  let content = first;
  let unsaved = false;
  return {
    identity: identityOf(content.node_id, keyOf(file, content.private_key)),
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
      try {
        write(file, content);
        unsaved = false;
      } catch (error) {
        // If tokens are lost with the process, the agent enrols again with its key, which is in the file.
        if (!(error instanceof StartError)) throw error;
        if (!unsaved) onUnsaved(`New tokens are not kept: ${error.message}`);
        unsaved = true;
      }
    },
  };
}

function keyOf(file: string, text: string): KeyObject {
  let key: KeyObject | undefined;
  try {
    key = createPrivateKey({ key: Buffer.from(text, "base64"), format: "der", type: "pkcs8" });
  } catch {
    // The error's message may reveal parts of the key.
  }
  if (key?.asymmetricKeyType !== "ed25519") throw damaged(file, "private_key is not an Ed25519 key");
  return key;
}

const write = (file: string, content: CredentialsFile): void =>
  writeStateFile(file, `${JSON.stringify(content, undefined, 2)}\n`);
