// How a command reaches the service, and what it says when the service refuses.
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema } from "../../gen/google/rpc/error_details_pb.js";
import { localUrl } from "../client/address.js";
import { createLucidClient, type LucidClient } from "../client/client.js";
import { lucidReason, retryReason } from "../client/errors.js";
import { present } from "../present.js";
import { parseSettings, readClientTokens, readEnvironment } from "../settings/environment.js";
import { UsageError } from "./usage.js";

export interface ServiceOptions {
  /** The address in the settings when absent. */
  readonly server?: string | undefined;
  /** The environment's when absent. */
  readonly token?: string | undefined;
}

/** @throws UsageError without a token, StartError for settings that cannot be used */
export function openClient({ server, token = readClientTokens().token }: ServiceOptions): LucidClient {
  if (token === undefined) throw new UsageError("--token or LUCID_TOKEN is required");
  return createLucidClient({ baseUrl: server ?? urlOfSettings(), accessToken: token });
}

/** Where the service of these settings listens, as seen from its own machine. @throws StartError */
export function urlOfSettings(): string {
  const { host, port, tls } = parseSettings(readEnvironment());
  return localUrl({ host, port, tls: tls !== undefined });
}

export interface Refusal {
  /** The service's sentence and code, in one line. */
  readonly message: string;
  readonly violations: readonly { readonly field: string; readonly description: string }[];
  /** The service may have done what it was asked, or the same call may succeed later. */
  readonly isPassing: boolean;
}

/** The refusal in an error of a call. @throws the error itself when it is of another kind */
export function refusalOf(error: unknown): Refusal {
  if (!(error instanceof ConnectError)) throw error;
  const code = Code[error.code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
  const reason = lucidReason(error);
  return {
    message: `${error.rawMessage.replaceAll("\n", " ")} (${Object.values(present({ reason, code })).join(", ")})`,
    violations: error.findDetails(BadRequestSchema).flatMap(({ fieldViolations }) => fieldViolations),
    isPassing: retryReason(error) !== undefined,
  };
}
