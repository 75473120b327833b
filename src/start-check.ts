// Checks the settings' files and ports before the service opens anything, so that an operator's mistake is reported in
// one sentence and changes nothing.
import { lookup } from "node:dns/promises";
import { createSecureContext } from "node:tls";
import type { Settings } from "./settings/settings.js";
import { StartError } from "./start-error.js";
import { probeFolder, readStateFile } from "./state-file.js";

/** @throws StartError that names the setting, and the file or folder, and the remedy */
export async function checkStart(settings: Settings): Promise<void> {
  const keepsKeys = settings.jwtSecretKey === undefined || settings.encryptionKey === undefined;
  if (keepsKeys) checkDataDir(settings);
  else checkStoreDir(settings);
  if (settings.tls !== undefined) checkTls(settings.tls, settings.secretsGroupReadable);
  for (const [name, host] of [
    ["HOST", settings.host],
    ["METRICS_HOST", settings.metricsHost],
  ] as const) {
    await lookup(host).catch(cannotListen({ portName: "", port: 0, hostName: name, host }));
  }
}

/** DATA_DIR is writable, if the store is in it. @throws StartError */
export function checkStoreDir(settings: Settings): void {
  if (settings.mongodb.url === undefined) checkDataDir(settings);
}

const checkDataDir = ({ dataDir }: Settings): void => named("DATA_DIR", () => probeFolder(dataDir));

/** Puts the setting's name before the error about its file. */
function named<Result>(setting: string, look: () => Result): Result {
  try {
    return look();
  } catch (error) {
    if (error instanceof StartError) throw new StartError(`${setting}: ${error.message}`);
    throw error;
  }
}

function checkTls({ certFile, keyFile, clientCaFile }: NonNullable<Settings["tls"]>, groupReadable: boolean): void {
  const read = (setting: string, file: string, readers: "owner" | "all", remedy: string): string =>
    named(setting, () => {
      const text = readStateFile(file, { readers, groupReadable, remedy });
      if (text === undefined) throw new StartError(`${file} does not exist; ${remedy}`);
      return text;
    });
  const usable = (
    setting: string,
    file: string,
    remedy: string,
    material: { cert?: string; key?: string; ca?: string },
  ) => {
    try {
      createSecureContext(material);
    } catch {
      throw new StartError(`${setting}: ${file} cannot be used; ${remedy}`);
    }
  };
  const certRemedy = "give a PEM file of the certificate and its chain";
  const keyRemedy = "give a PEM file of the certificate's private key, without a passphrase";
  const cert = read("TLS_CERT_FILE", certFile, "all", certRemedy);
  usable("TLS_CERT_FILE", certFile, certRemedy, { cert });
  const key = read("TLS_KEY_FILE", keyFile, "owner", keyRemedy);
  usable("TLS_KEY_FILE", keyFile, keyRemedy, { key });
  usable("TLS_KEY_FILE", keyFile, `it is not the key of the certificate in ${certFile}: give that one`, { cert, key });
  if (clientCaFile === undefined) return;
  const caRemedy = "give a PEM file of the authorities that sign the clients' certificates";
  const ca = read("TLS_CLIENT_CA_FILE", clientCaFile, "all", caRemedy);
  if (!ca.includes("-----BEGIN CERTIFICATE-----")) {
    throw new StartError(`TLS_CLIENT_CA_FILE: ${clientCaFile} has no certificate in it; ${caRemedy}`);
  }
  usable("TLS_CLIENT_CA_FILE", clientCaFile, caRemedy, { ca });
}

export interface Listening {
  readonly portName: string;
  readonly port: number;
  readonly hostName: string;
  readonly host: string;
}

/**
 * Returns a handler that turns the system's reason for refusing the port into a StartError. Any other error is thrown
 * unchanged.
 */
export const cannotListen =
  ({ portName, port, hostName, host }: Listening) =>
  (error: unknown): never => {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    const another = "set an address of this machine, or 0.0.0.0 or :: for all of them";
    const sentence = {
      EADDRINUSE: `${portName}: ${host}:${port} is in use (EADDRINUSE); stop the process that listens there, or set another port`,
      EACCES: `${portName}: ${host}:${port} needs rights that this user has not (EACCES); set a port from 1024 on`,
      EADDRNOTAVAIL: `${hostName}: ${host} is not an address of this machine (EADDRNOTAVAIL); ${another}`,
      EAFNOSUPPORT: `${hostName}: this machine has no addresses of the family of ${host} (EAFNOSUPPORT); ${another}`,
      EINVAL: `${hostName}: ${host} cannot be listened on (EINVAL); ${another}`,
      ENOTFOUND: `${hostName}: ${host} does not resolve (ENOTFOUND); ${another}`,
      EAI_AGAIN: `${hostName}: ${host} does not resolve, for no name server answers (EAI_AGAIN); ${another}`,
    }[code];
    if (sentence === undefined) throw error;
    throw new StartError(sentence);
  };
