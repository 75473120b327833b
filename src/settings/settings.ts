// Everything that can be set from outside, and the only file that names an environment variable.
// Values come from the environment, else from .env, else from CONFIG_FILE (both KEY=VALUE lines); names in any case.
// An empty value counts as absent. All problems are reported at once.
import { existsSync } from "node:fs";
import { isIPv4, isIPv6 } from "node:net";
import { hostname } from "node:os";
import { parseEnv } from "node:util";
import { isEncryptionKey, keyRingWeakness, sharesSecret } from "../access/keyring.js";
import { isRange } from "../port/proxies.js";
import { StartError } from "../start-error.js";
import { readStateFile } from "../state-file.js";

export interface Settings {
  readonly serviceName: string;
  readonly version: string;
  readonly environment: string;
  readonly host: string;
  readonly port: number;
  readonly metricsHost: string;
  readonly metricsPort: number;
  readonly dataDir: string;
  /** Files with keys may be readable for their group, too. */
  readonly secretsGroupReadable: boolean;
  /** New keys may be made beside a store that was made with others. */
  readonly newSecretsAllowed: boolean;
  /** An empty store may be begun where there was one. */
  readonly emptyStoreAllowed: boolean;
  /** The embedded store is checked at each start up to this size. */
  readonly storeCheckBytesMax: number;
  readonly replicaName: string;
  readonly mongodb: { readonly url: string | undefined; readonly database: string };
  readonly redisUrl: string | undefined;
  readonly jwtSecretKey: string | undefined;
  readonly jwtPrivilegedSecretKey: string | undefined;
  readonly encryptionKey: string | undefined;
  readonly heartbeat: {
    readonly intervalMs: number;
    readonly graceMs: number;
    readonly lostAfterMs: number | undefined;
    readonly rateMax: number;
    readonly streamsMax: number;
    readonly streamLifetimeMs: number;
    readonly commandTimeoutMs: number;
  };
  readonly resources: {
    readonly collectionIntervalMs: number;
    readonly retentionDays: number;
    readonly cleanupIntervalMs: number;
  };
  readonly poot: {
    readonly validationTimeoutMs: number;
    readonly outputBytesMax: number;
    readonly clockSkewMs: number;
    readonly challengesRequired: boolean;
    readonly sharedOutputEvents: boolean;
  };
  readonly payoutBatchSize: number;
  readonly payoutAddressCooldownMs: number;
  /** The longest that a token lives which the service issues. */
  readonly tokenTtlMaxMs: number;
  readonly log: { readonly level: "DEBUG" | "INFO" | "WARNING" | "ERROR"; readonly format: "json" | "standard" };
  readonly rateLimit: {
    readonly enabled: boolean;
    readonly publicPerMinute: number;
    readonly authenticatedPerMinute: number;
    readonly adminPerMinute: number;
    readonly pootPerMinute: number;
    readonly payoutPerMinute: number;
  };
  readonly torOnly: boolean;
  /** Read and checked; nothing goes through a proxy yet, so it opens no way past TOR_ONLY. */
  readonly torProxyUrl: string | undefined;
  readonly hardwareValidationEnabled: boolean;
  readonly reflectionEnabled: boolean;
  readonly connectionsPerAddressMax: number;
  /** Addresses and CIDR ranges. */
  readonly trustedProxies: readonly string[];
  readonly maxRequestBytes: number;
  readonly corsAllowedOrigins: readonly string[];
  readonly externalHealthUrls: Readonly<Record<string, string>>;
  readonly drainWindowMs: number;
  readonly tls:
    | { readonly certFile: string; readonly keyFile: string; readonly clientCaFile: string | undefined }
    | undefined;
}

/** The settings cannot be used; `problems` names each variable and what is wrong with it. */
export class SettingsError extends StartError {
  override readonly name = "SettingsError";
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`The settings cannot be used:\n${problems.map((problem) => `  - ${problem}`).join("\n")}`);
    this.problems = problems;
  }
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Merges the environment with .env and CONFIG_FILE; names come out in capitals. */
export function readEnvironment(environment: Environment = process.env, directory = process.cwd()): Environment {
  const merged: Record<string, string> = {};
  const take = (source: Environment) => {
    for (const [name, value] of Object.entries(source)) {
      if (value !== undefined && value !== "") merged[name.toUpperCase()] ??= value;
    }
  };
  take(environment);
  take(readLines(".env", `${directory}/.env`) ?? {});
  const configFile = merged.CONFIG_FILE;
  if (configFile !== undefined) {
    const lines = readLines("CONFIG_FILE", configFile);
    if (lines === undefined) throw new SettingsError([`CONFIG_FILE: ${configFile} does not exist`]);
    take(lines);
  }
  return merged;
}

/** The KEY=VALUE lines of a file; undefined when there is none. @throws SettingsError */
function readLines(name: string, file: string): Environment | undefined {
  try {
    const text = readStateFile(file, { readers: "all", mayBeEmpty: true, remedy: "give a file of KEY=VALUE lines" });
    return text === undefined ? undefined : (parseEnv(text) as Environment);
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    throw new SettingsError([`${name}: ${error.message}`]);
  }
}

/** What the agent and the simulation take from the environment: secrets that should not be in the list of processes. */
export const readClientTokens = (environment: Environment = readEnvironment()) => ({
  token: environment.LUCID_TOKEN,
  enrollmentToken: environment.LUCID_ENROLLMENT_TOKEN,
});

/** Whether files with keys may be readable for their group. @throws SettingsError */
export function readSecretsGroupReadable(environment: Environment = readEnvironment()): boolean {
  const read = createReader(environment);
  const allowed = read.flag("SECRETS_GROUP_READABLE", false);
  if (read.problems.length > 0) throw new SettingsError(read.problems);
  return allowed;
}

/** @throws SettingsError with all problems at once. */
export function parseSettings(environment: Environment): Settings {
  const read = createReader(environment);
  const intervalMs = read.seconds("NODE_HEARTBEAT_INTERVAL", 30, 1, 3600);
  // In any case: "Production" must not lift the rules of production.
  const environmentName = (read.text("ENVIRONMENT") ?? "development").toLowerCase();
  // Reachable from outside only where somebody has decided to deploy it.
  const host = read.host("HOST") ?? (environmentName === "production" ? "::" : "127.0.0.1");
  const settings: Settings = {
    serviceName: read.text("SERVICE_NAME") ?? "node-management-service",
    version: read.text("VERSION") ?? "1.0.0",
    environment: environmentName,
    host,
    port: read.integer("PORT", 8083, 0, 65535),
    metricsHost: read.host("METRICS_HOST") ?? host,
    metricsPort: read.integer("METRICS_PORT", 9090, 0, 65535),
    dataDir: read.text("DATA_DIR") ?? "./data",
    secretsGroupReadable: read.flag("SECRETS_GROUP_READABLE", false),
    newSecretsAllowed: read.flag("ALLOW_NEW_SECRETS", false),
    emptyStoreAllowed: read.flag("ALLOW_EMPTY_STORE", false),
    storeCheckBytesMax: read.integer("STORE_CHECK_SIZE_MAX", 1_073_741_824, 0, 1_099_511_627_776),
    replicaName: read.text("HOSTNAME") ?? hostname(),
    mongodb: {
      url: read.mongodbUrl("MONGODB_URL"),
      database: read.text("MONGODB_DATABASE") ?? "lucid",
    },
    redisUrl: read.url("REDIS_URL", ["redis:", "rediss:"]),
    jwtSecretKey: read.text("JWT_SECRET_KEY"),
    jwtPrivilegedSecretKey: read.text("JWT_PRIVILEGED_SECRET_KEY"),
    encryptionKey: read.key("ENCRYPTION_KEY"),
    heartbeat: {
      intervalMs,
      graceMs: read.seconds("HEARTBEAT_GRACE", Math.max(intervalMs / 1000, 10), 1, 86_400),
      lostAfterMs: read.optionalSeconds("HEARTBEAT_LOST_AFTER", 1, 604_800),
      rateMax: read.integer("HEARTBEAT_RATE_MAX", 2000, 1, 1_000_000),
      streamsMax: read.integer("STREAMS_MAX", 20_000, 1, 1_000_000),
      streamLifetimeMs: read.seconds("STREAM_LIFETIME", 1800, 1, 86_400),
      commandTimeoutMs: read.seconds("NODE_COMMAND_TIMEOUT", 60, 1, 3600),
    },
    resources: {
      collectionIntervalMs: read.seconds("RESOURCE_COLLECTION_INTERVAL", 60, 1, 86_400),
      retentionDays: read.integer("RESOURCE_RETENTION_DAYS", 90, 1, 3650),
      cleanupIntervalMs: read.seconds("RESOURCE_CLEANUP_INTERVAL", 3600, 1, 86_400),
    },
    poot: {
      validationTimeoutMs: read.seconds("POOT_VALIDATION_TIMEOUT", 30, 1, 3600),
      outputBytesMax: read.integer("MAX_OUTPUT_DATA_SIZE", 1_048_576, 1, 1_048_576),
      clockSkewMs: read.seconds("POOT_CLOCK_SKEW_SECONDS", 60, 0, 3600),
      challengesRequired: read.flag("POOT_CHALLENGES_REQUIRED", false),
      sharedOutputEvents: read.flag("POOT_SHARED_OUTPUT_EVENTS", false),
    },
    payoutBatchSize: read.integer("PAYOUT_BATCH_SIZE", 100, 1, 1000),
    tokenTtlMaxMs: read.seconds("TOKEN_TTL_MAX", 86_400, 60, 86_400),
    payoutAddressCooldownMs: read.seconds("PAYOUT_ADDRESS_COOLDOWN", 86_400, 0, 2_592_000),
    log: {
      level: read.oneOf("LOG_LEVEL", ["DEBUG", "INFO", "WARNING", "ERROR"], "INFO"),
      format: read.oneOf("LOG_FORMAT", ["json", "standard"], "json"),
    },
    rateLimit: {
      enabled: read.flag("RATE_LIMIT_ENABLED", true),
      publicPerMinute: read.integer("RATE_LIMIT_PUBLIC_PER_MINUTE", 100, 1, 10_000_000),
      authenticatedPerMinute: read.integer("RATE_LIMIT_PER_MINUTE", 1000, 1, 10_000_000),
      adminPerMinute: read.integer("RATE_LIMIT_ADMIN_PER_MINUTE", 10_000, 1, 10_000_000),
      pootPerMinute: read.integer("RATE_LIMIT_POOT_PER_MINUTE", 100, 1, 10_000_000),
      payoutPerMinute: read.integer("RATE_LIMIT_PAYOUT_PER_MINUTE", 50, 1, 10_000_000),
    },
    torOnly: read.flag("TOR_ONLY", false),
    torProxyUrl: read.url("TOR_PROXY_URL", ["socks5:", "socks5h:", "http:"]),
    hardwareValidationEnabled: read.flag("HARDWARE_VALIDATION_ENABLED", false),
    // What a stranger may ask at length is offered where somebody develops.
    reflectionEnabled: read.flag("REFLECTION_ENABLED", environmentName !== "production"),
    connectionsPerAddressMax: read.integer("CONNECTIONS_PER_ADDRESS_MAX", 10_000, 1, 1_000_000),
    trustedProxies: read.ranges("TRUSTED_PROXIES"),
    maxRequestBytes: read.integer("MAX_REQUEST_SIZE", 10_485_760, 1024, 104_857_600),
    corsAllowedOrigins: read.origins("CORS_ALLOWED_ORIGINS"),
    externalHealthUrls: read.namedUrls("EXTERNAL_HEALTH_URLS"),
    drainWindowMs: read.seconds("DRAIN_WINDOW", 5, 0, 600),
    tls: read.tls(),
  };
  read.problems.push(...relationProblems(settings));
  if (read.problems.length > 0) throw new SettingsError(read.problems);
  return settings;
}

/** What no single variable can say: rules between them, and those of production. */
function relationProblems(settings: Settings): string[] {
  const problems: string[] = [];
  const secrets: [string, string | undefined][] = [
    ["JWT_SECRET_KEY", settings.jwtSecretKey],
    ["JWT_PRIVILEGED_SECRET_KEY", settings.jwtPrivilegedSecretKey],
  ];
  for (const [name, value] of secrets) {
    const weak = value === undefined ? undefined : keyRingWeakness(value);
    if (weak !== undefined) problems.push(`${name}: ${weak}`);
  }
  if (sharesSecret(settings.jwtSecretKey, settings.jwtPrivilegedSecretKey)) {
    problems.push("JWT_PRIVILEGED_SECRET_KEY: shares a secret with JWT_SECRET_KEY, so that it would protect nothing");
  }
  if (settings.environment === "production") {
    const required: [string, unknown][] = [
      ["MONGODB_URL", settings.mongodb.url],
      ["REDIS_URL", settings.redisUrl],
      ...secrets,
      ["ENCRYPTION_KEY", settings.encryptionKey],
    ];
    for (const [name, value] of required) {
      if (value === undefined) problems.push(`${name}: required when ENVIRONMENT=production`);
    }
    const key = Buffer.from(settings.encryptionKey ?? "", "base64");
    if (key.length > 0 && new Set(key).size < 16) problems.push("ENCRYPTION_KEY: is a known or weak key");
  }
  if (settings.torOnly) problems.push(...torProblems(settings));
  return problems;
}

/** Under TOR_ONLY every outbound URL must lead to an onion or stay inside the cluster: nothing goes through a proxy. */
function torProblems({ mongodb, redisUrl, externalHealthUrls }: Settings): string[] {
  const stores: [string, string][] = [
    ...mongodbHosts(mongodb.url ?? "").map((host): [string, string] => ["MONGODB_URL", `mongodb://${host}`]),
    ...(redisUrl === undefined ? [] : [["REDIS_URL", redisUrl] as [string, string]]),
  ];
  const asked = Object.entries(externalHealthUrls).map(([name, url]): [string, string] => [
    `EXTERNAL_HEALTH_URLS (${name})`,
    url,
  ]);
  const outside = ([, url]: [string, string]) => !staysInside(new URL(url).hostname);
  return [
    ...stores.filter(outside).map(([name, url]) => `${name}: TOR_ONLY refuses ${new URL(url).host}`),
    ...asked.filter(outside).map(([name, url]) => `${name}: TOR_ONLY refuses ${new URL(url).origin}`),
  ];
}

/** Onions, loopback, and names without a public suffix, as Compose and Kubernetes give them. */
const staysInside = (host: string) =>
  host.endsWith(".onion") ||
  (isIPv4(host) && host.startsWith("127.")) ||
  host === "[::1]" ||
  (!host.includes(".") && !host.includes(":")) ||
  host.endsWith(".svc") ||
  host.endsWith(".cluster.local");

/** Hosts with their ports; a replica set has several, which no URL parser takes. None for what is no such URL. */
const mongodbHosts = (url: string): string[] => {
  const hosts = /^mongodb(?:[+]srv)?:[/][/](?:[^@/]*@)?([^/?#@]+)(?:[/?].*)?$/.exec(url)?.[1]?.split(",") ?? [];
  return hosts.every((host) => host !== "" && URL.canParse(`mongodb://${host}`)) ? hosts : [];
};

function createReader(environment: Environment) {
  const problems: string[] = [];
  const text = (name: string) => environment[name];
  const number = (name: string, fallback: number, min: number, max: number, whole: boolean): number => {
    const value = text(name);
    if (value === undefined) return fallback;
    const parsed = /^[0-9]+([.][0-9]+)?$/.test(value.trim()) ? Number(value) : Number.NaN;
    if (parsed >= min && parsed <= max && (!whole || Number.isInteger(parsed))) return parsed;
    problems.push(`${name}: ${value} is not a ${whole ? "whole " : ""}number from ${min} to ${max}`);
    return fallback;
  };
  const url = (name: string, value: string | undefined, protocols: readonly string[]): string | undefined => {
    if (value === undefined) return undefined;
    // The value may carry a password, so the message does not repeat it.
    if (URL.canParse(value) && protocols.includes(new URL(value).protocol)) return value;
    problems.push(`${name}: not a URL that begins with ${protocols.map((protocol) => `${protocol}//`).join(" or ")}`);
    return undefined;
  };
  return {
    problems,
    text,
    integer: (name: string, fallback: number, min: number, max: number) => number(name, fallback, min, max, true),
    /** Read in seconds, decimals allowed; answered in milliseconds. */
    seconds: (name: string, fallback: number, min: number, max: number) =>
      Math.round(number(name, fallback, min, max, false) * 1000),
    optionalSeconds: (name: string, min: number, max: number) =>
      text(name) === undefined ? undefined : Math.round(number(name, min, min, max, false) * 1000),
    url: (name: string, protocols: readonly string[]) => url(name, text(name), protocols),
    mongodbUrl: (name: string): string | undefined => {
      const value = text(name);
      if (value !== undefined && mongodbHosts(value).length === 0) {
        problems.push(`${name}: not a URL that begins with mongodb:// or mongodb+srv://`);
      }
      return value;
    },
    flag: (name: string, fallback: boolean): boolean => {
      const value = text(name)?.toLowerCase();
      if (value === undefined) return fallback;
      if (["true", "1", "yes", "on"].includes(value)) return true;
      if (!["false", "0", "no", "off"].includes(value)) problems.push(`${name}: ${value} is neither true nor false`);
      return false;
    },
    oneOf: <Choice extends string>(name: string, choices: readonly Choice[], fallback: Choice): Choice => {
      const value = text(name);
      if (value === undefined) return fallback;
      const found = choices.find((choice) => choice.toLowerCase() === value.toLowerCase());
      if (found === undefined) problems.push(`${name}: ${value} is none of ${choices.join(", ")}`);
      return found ?? fallback;
    },
    /** A name or an address, without port or brackets. */
    host: (name: string): string | undefined => {
      const value = text(name);
      const isName = value !== undefined && /^[\w.-]{1,253}$/.test(value) && URL.canParse(`http://${value}`);
      if (value === undefined || isName || isIPv6(value)) return value;
      problems.push(`${name}: ${value} is neither a host's name nor an address such as 0.0.0.0 or ::1`);
      return undefined;
    },
    /** Base64 of 32 bytes. */
    key: (name: string): string | undefined => {
      const value = text(name);
      if (value !== undefined && !isEncryptionKey(value)) {
        problems.push(`${name}: not the base64 of 32 bytes`);
      }
      return value;
    },
    origins: (name: string): string[] => {
      const origins = (text(name) ?? "").split(",").map((origin) => origin.trim());
      return origins.filter((origin) => {
        if (origin === "") return false;
        const fine = URL.canParse(origin) && new URL(origin).origin === origin;
        if (!fine) problems.push(`${name}: ${origin} is not an origin such as https://app.example`);
        return fine;
      });
    },
    /** Addresses and CIDR ranges joined by commas. */
    ranges: (name: string): string[] => {
      const ranges = (text(name) ?? "").split(",").map((range) => range.trim());
      return ranges.filter((range) => {
        if (range !== "" && !isRange(range))
          problems.push(`${name}: ${range} is not an address or a range such as 10.0.0.0/8`);
        return range !== "" && isRange(range);
      });
    },
    /** name=url pairs joined by commas. */
    namedUrls: (name: string): Record<string, string> => {
      const pairs: Record<string, string> = {};
      for (const part of (text(name) ?? "").split(",").filter((item) => item.trim() !== "")) {
        const [key = "", ...rest] = part.trim().split("=");
        const value = url(`${name} (${key})`, rest.join("="), ["http:", "https:"]);
        if (value !== undefined) pairs[key] = value;
      }
      return pairs;
    },
    tls: (): Settings["tls"] => {
      const certFile = text("TLS_CERT_FILE");
      const keyFile = text("TLS_KEY_FILE");
      const clientCaFile = text("TLS_CLIENT_CA_FILE");
      for (const [name, file] of Object.entries({
        TLS_CERT_FILE: certFile,
        TLS_KEY_FILE: keyFile,
        TLS_CLIENT_CA_FILE: clientCaFile,
      })) {
        if (file !== undefined && !existsSync(file)) problems.push(`${name}: ${file} does not exist`);
      }
      if ((certFile === undefined) !== (keyFile === undefined)) {
        problems.push("TLS_CERT_FILE and TLS_KEY_FILE: give both or none");
      }
      if (certFile !== undefined && keyFile !== undefined) return { certFile, keyFile, clientCaFile };
      if (clientCaFile !== undefined) problems.push("TLS_CLIENT_CA_FILE: needs TLS_CERT_FILE and TLS_KEY_FILE");
      return undefined;
    },
  };
}
