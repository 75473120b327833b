// TLS certificates from files that may be replaced while the service runs.
import { readFile } from "node:fs/promises";
import { createSecureContext, type Server } from "node:tls";
import type { Log } from "../telemetry/log.js";

export interface TlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
  /** If present, every client must show a certificate signed by one of these authorities. */
  readonly clientCaFile?: string | undefined;
}

export interface TlsMaterial {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca?: Buffer;
}

/** Reads the files and checks that they fit together; throws when they do not. */
export async function readTls(files: TlsFiles): Promise<TlsMaterial> {
  const [cert, key, ca] = await Promise.all(
    [files.certFile, files.keyFile, files.clientCaFile].map((file) =>
      file === undefined ? undefined : readFile(file),
    ),
  );
  if (!cert || !key) throw new Error("certificate and key are required");
  const material = { cert, key, ...(ca ? { ca } : {}) };
  createSecureContext(material);
  return material;
}

/**
 * Checks the files regularly, and uses their new content for new connections; open ones are not affected. If the files
 * cannot be used, the old content stays, with one log line for each new content. Contents are compared, not times:
 * orchestrators replace whole folders by a symbolic link.
 */
export function createTlsReload(server: Server, files: TlsFiles, first: TlsMaterial, log: Log) {
  let serving = fingerprint(first);
  let reported = "";
  return async (): Promise<void> => {
    try {
      const material = await readTls(files);
      const found = fingerprint(material);
      if (found === serving) return;
      server.setSecureContext({ ...material, minVersion: "TLSv1.2" });
      serving = found;
      reported = "";
      log.info("TLS certificate reloaded");
    } catch (error) {
      const text = String(error);
      if (text === reported) return;
      reported = text;
      log.error("TLS certificate not reloaded, the old one stays", { error });
    }
  };
}

function fingerprint({ cert, key, ca }: TlsMaterial): string {
  return [cert, key, ca].map((part) => part?.toString("base64") ?? "").join(".");
}
