// What can be set from outside: a row of data for each variable. All else follows from the rows: the type Settings, what
// environment.ts reads, and the tables of docs/operations.md (`make generate`). To add a setting, add its row. Pure.
import type { FieldsOf, Kind, SilentKind, ValueOf } from "./kinds.js";

type RowOf<K extends Kind> = FieldsOf<K> & {
  /** Of the variable, in capitals; read in any case. */
  readonly name: string;
  readonly kind: K;
  /** What it is for, in Markdown: all that operators read of it beside its default and its bounds. */
  readonly meaning: string;
  /** In words, as Markdown: the default of what is `derived`, or what it means that an `optional` one is not set. */
  readonly words?: string;
  readonly requiredInProduction?: true;
} & Fallback &
  (K extends SilentKind
    ? { /** A key, or what may hold a password: belongs where secrets are kept. */ readonly secret: true }
    : { readonly secret?: never });

/** What a variable that is not set means. */
type Fallback =
  /** The value of this text. */
  | { readonly default: string }
  /** A value that `settle` in rules.ts makes of other settings or of the machine. */
  | { readonly derived: true; readonly words: string }
  /** No value. */
  | { readonly optional: true; readonly words: string };

export type Row = { [K in Kind]: RowOf<K> }[Kind];
/** Rows where their values are in Settings. */
export interface Rows {
  readonly [field: string]: Row | Rows;
}

const ports = {
  port: {
    ...{ name: "PORT", kind: "integer", min: 0, max: 65_535, default: "8083" },
    meaning: "the one port; 0 takes a free one",
  },
  host: {
    ...{ name: "HOST", kind: "host", derived: true, words: "`127.0.0.1`, in production `::`" },
    meaning: "the address that the port is opened on",
  },
  metricsPort: {
    ...{ name: "METRICS_PORT", kind: "integer", min: 0, max: 65_535, default: "9090" },
    meaning: "metrics and probes in cleartext",
  },
  metricsHost: {
    ...{ name: "METRICS_HOST", kind: "host", derived: true, words: "as `HOST`" },
    meaning: "the address that `METRICS_PORT` is opened on",
  },
} as const satisfies Rows;

const identity = {
  environment: {
    ...{ name: "ENVIRONMENT", kind: "text", default: "development" },
    meaning: "`production`, in any case, requires what is marked so, refuses weak keys and listens to the outside",
  },
  serviceName: {
    ...{ name: "SERVICE_NAME", kind: "text", default: "node-management-service" },
    meaning: "as told in logs, metrics and GetServiceInfo",
  },
  version: {
    ...{ name: "VERSION", kind: "text", derived: true, words: "the version of the package" },
    meaning: "as told in logs, metrics and GetServiceInfo",
  },
  replicaName: {
    ...{ name: "HOSTNAME", kind: "text", derived: true, words: "the machine's" },
    meaning: "the beginning of this replica's id, as told in logs",
  },
} as const satisfies Rows;

const dataDirectory = {
  dataDir: {
    ...{ name: "DATA_DIR", kind: "text", default: "./data" },
    meaning:
      "the embedded store where there is no `MONGODB_URL`, and keys the service made for itself; one process owns it",
  },
  emptyStoreAllowed: {
    ...{ name: "ALLOW_EMPTY_STORE", kind: "flag", default: "false" },
    meaning:
      "begins an empty store although there was one in `DATA_DIR` whose `lucid.db` is empty or gone; for one start",
  },
  storeCheckBytesMax: {
    ...{ name: "STORE_CHECK_SIZE_MAX", kind: "integer", min: 0, max: 1_099_511_627_776, default: "1073741824" },
    meaning:
      "bytes up to which `lucid.db` is checked (`PRAGMA quick_check`) at each start, some seconds for 1 GiB; 0 checks none",
  },
} as const satisfies Rows;

const mongodb = {
  url: {
    ...{ name: "MONGODB_URL", kind: "mongodbUrl", secret: true, optional: true, words: "none" },
    requiredInProduction: true,
    meaning: "MongoDB 5.0 or later, with credentials and TLS in the URL: documents live there in place of `DATA_DIR`",
  },
  database: {
    ...{ name: "MONGODB_DATABASE", kind: "text", default: "lucid" },
    meaning: "the database there",
  },
} as const satisfies Rows;

const redis = {
  redisUrl: {
    ...{ name: "REDIS_URL", kind: "url", protocols: ["redis:", "rediss:"], secret: true },
    ...{ optional: true, words: "none", requiredInProduction: true },
    meaning:
      "limits and wake-up calls over all replicas; required for more than one. `?tlsCAFile=` names authorities to trust. A Redis that stands alone, with replicas or not; see [Redis](#redis)",
  },
} as const satisfies Rows;

const keys = {
  jwtSecretKey: {
    ...{ name: "JWT_SECRET_KEY", kind: "keyRing", secret: true, requiredInProduction: true },
    ...{ optional: true, words: "made and kept in `DATA_DIR`" },
    meaning:
      "signs tokens; `kid:secret` pairs joined by commas rotate: the first signs, all verify; 32 bytes or more each",
  },
  jwtPrivilegedSecretKey: {
    ...{ name: "JWT_PRIVILEGED_SECRET_KEY", kind: "keyRing", secret: true, requiredInProduction: true },
    ...{ optional: true, words: "none" },
    meaning: "when set, only it signs and verifies payer, admin, refresh and enrolment tokens",
  },
  encryptionKey: {
    ...{ name: "ENCRYPTION_KEY", kind: "key", secret: true, requiredInProduction: true },
    ...{ optional: true, words: "made and kept in `DATA_DIR`" },
    meaning: "seals payout addresses, signs challenges (of enrolment and of PoOT) and page tokens",
  },
  newSecretsAllowed: {
    ...{ name: "ALLOW_NEW_SECRETS", kind: "flag", default: "false" },
    meaning:
      "makes new keys although there is a store in `DATA_DIR`, whose tokens and sealed payout addresses are lost by it",
  },
  secretsGroupReadable: {
    ...{ name: "SECRETS_GROUP_READABLE", kind: "flag", default: "false" },
    meaning:
      "takes `secrets.json`, `agent.json` and `TLS_KEY_FILE` also with mode 640 or 440; any mode wider than 600 is refused otherwise. Kubernetes mounts secrets with 644 unless the volume says `defaultMode: 0440`. A volume with an `fsGroup` wants `fsGroupChangePolicy: OnRootMismatch`, or each mount makes its files 660",
  },
  tokenTtlMaxMs: {
    ...{ name: "TOKEN_TTL_MAX", kind: "seconds", min: 60, max: 86_400, default: "86400" },
    meaning:
      "the longest that a token lives which the service issues, refresh tokens among them; a longer `ttl` of IssueToken is refused, what lives longer unasked is cut",
  },
} as const satisfies Rows;

const heartbeat = {
  intervalMs: {
    ...{ name: "NODE_HEARTBEAT_INTERVAL", kind: "seconds", min: 1, max: 3600, default: "30" },
    meaning: "between beats; longer when the fleet is so large that `HEARTBEAT_RATE_MAX` would be exceeded",
  },
  graceMs: {
    ...{ name: "HEARTBEAT_GRACE", kind: "seconds", min: 1, max: 86_400, derived: true, words: "max(interval, 10)" },
    meaning: "silence beyond the interval before DISCONNECTED",
  },
  lostAfterMs: {
    ...{ name: "HEARTBEAT_LOST_AFTER", kind: "seconds", min: 1, max: 604_800 },
    ...{ optional: true, words: "max(300, 2 x (interval + grace))" },
    meaning: "silence before LOST",
  },
  rateMax: {
    ...{ name: "HEARTBEAT_RATE_MAX", kind: "integer", min: 1, max: 1_000_000, default: "2000" },
    meaning: "beats a second of a replica",
  },
  streamsMax: {
    ...{ name: "STREAMS_MAX", kind: "integer", min: 1, max: 1_000_000, default: "20000" },
    meaning: "streams of a replica",
  },
  streamLifetimeMs: {
    ...{ name: "STREAM_LIFETIME", kind: "seconds", min: 1, max: 86_400, default: "1800" },
    meaning: "a stream is renewed after this, give or take a fifth",
  },
  commandTimeoutMs: {
    ...{ name: "NODE_COMMAND_TIMEOUT", kind: "seconds", min: 1, max: 3600, default: "60" },
    meaning: "a connected node answers start, stop or restart within this, else ERROR",
  },
} as const satisfies Rows;

const shutdown = {
  drainWindowMs: {
    ...{ name: "DRAIN_WINDOW", kind: "seconds", min: 0, max: 600, default: "5" },
    meaning: "over which streams end at shutdown",
  },
} as const satisfies Rows;

const resources = {
  collectionIntervalMs: {
    ...{ name: "RESOURCE_COLLECTION_INTERVAL", kind: "seconds", min: 1, max: 86_400, default: "60" },
    meaning: "between samples of a machine",
  },
  retentionDays: {
    ...{ name: "RESOURCE_RETENTION_DAYS", kind: "integer", min: 1, max: 3650, default: "90" },
    meaning: "how many days samples and cleared alerts are kept (what came of them by the hour: a year)",
  },
  cleanupIntervalMs: {
    ...{ name: "RESOURCE_CLEANUP_INTERVAL", kind: "seconds", min: 1, max: 86_400, default: "3600" },
    meaning: "how often older ones are taken away",
  },
} as const satisfies Rows;

const poot = {
  validationTimeoutMs: {
    ...{ name: "POOT_VALIDATION_TIMEOUT", kind: "seconds", min: 1, max: 3600, default: "30" },
    meaning: "a proof that is not judged within this is refused, its nonce unspent",
  },
  outputBytesMax: {
    ...{ name: "MAX_OUTPUT_DATA_SIZE", kind: "integer", min: 1, max: 1_048_576, default: "1048576" },
    meaning: "bytes of a proof's output",
  },
  clockSkewMs: {
    ...{ name: "POOT_CLOCK_SKEW_SECONDS", kind: "seconds", min: 0, max: 3600, default: "60" },
    meaning: "how far ahead of the service a proof's timestamp may be",
  },
  challengesRequired: {
    ...{ name: "POOT_CHALLENGES_REQUIRED", kind: "flag", default: "false" },
    meaning: "takes only nonces that IssuePoOTChallenge has given",
  },
  sharedOutputEvents: {
    ...{ name: "POOT_SHARED_OUTPUT_EVENTS", kind: "flag", default: "false" },
    meaning: "warns when two nodes prove the same output within 24 h",
  },
} as const satisfies Rows;

const signatures = {
  hardwareValidationEnabled: {
    ...{ name: "HARDWARE_VALIDATION_ENABLED", kind: "flag", default: "false" },
    meaning: "takes only proofs that are signed by the node's pinned key",
  },
} as const satisfies Rows;

const payouts = {
  payoutBatchSize: {
    ...{ name: "PAYOUT_BATCH_SIZE", kind: "integer", min: 1, max: 1000, default: "100" },
    meaning: "read and checked; used by payouts, which are not built yet",
  },
  payoutAddressCooldownMs: {
    ...{ name: "PAYOUT_ADDRESS_COOLDOWN", kind: "seconds", min: 0, max: 2_592_000, default: "86400" },
    meaning: "wait after a payout address changes",
  },
} as const satisfies Rows;

const perMinute = { kind: "integer", min: 1, max: 10_000_000 } as const;
const rateLimits = {
  enabled: {
    ...{ name: "RATE_LIMIT_ENABLED", kind: "flag", default: "true" },
    meaning: "the limits below",
  },
  authenticated: {
    ...{ name: "RATE_LIMIT_PER_MINUTE", ...perMinute, default: "1000" },
    meaning: "calls of one token's subject",
  },
  admin: {
    ...{ name: "RATE_LIMIT_ADMIN_PER_MINUTE", ...perMinute, default: "10000" },
    meaning: "the same, of an admin",
  },
  public: {
    ...{ name: "RATE_LIMIT_PUBLIC_PER_MINUTE", ...perMinute, default: "100" },
    meaning: "calls without a good token, per address",
  },
  poot: {
    ...{ name: "RATE_LIMIT_POOT_PER_MINUTE", ...perMinute, default: "100" },
    meaning: "calls of one subject that submit proofs or ask for challenges",
  },
  payout: {
    ...{ name: "RATE_LIMIT_PAYOUT_PER_MINUTE", ...perMinute, default: "50" },
    meaning: "calls of one subject about payouts",
  },
} as const satisfies Rows;

const callers = {
  maxRequestBytes: {
    ...{ name: "MAX_REQUEST_SIZE", kind: "integer", min: 1024, max: 104_857_600, default: "10485760" },
    meaning:
      "bytes of a BatchValidatePoOT request; ValidatePoOT takes up to 1.5 MiB of it, any other RPC 256 KiB; a batch in JSON 5 MiB at most",
  },
  connectionsPerAddressMax: {
    ...{ name: "CONNECTIONS_PER_ADDRESS_MAX", kind: "integer", min: 1, max: 1_000_000, default: "10000" },
    meaning:
      "connections of one IPv4 address or one IPv6 /64, half of all at most; trusted proxies have no such limit. A fleet behind one NAT or a balancer that rewrites addresses needs a larger one, or its balancer in `TRUSTED_PROXIES`",
  },
  trustedProxies: {
    ...{ name: "TRUSTED_PROXIES", kind: "ranges", default: "" },
    meaning: "proxies whose `X-Forwarded-For` is believed; behind one of them limits by address count the client's own",
  },
  corsAllowedOrigins: {
    ...{ name: "CORS_ALLOWED_ORIGINS", kind: "origins", default: "" },
    meaning: "browsers' origins",
  },
  // What a stranger may ask at length is offered where somebody develops.
  reflectionEnabled: {
    ...{ name: "REFLECTION_ENABLED", kind: "flag", derived: true, words: "true; in production false" },
    meaning: "gRPC reflection",
  },
} as const satisfies Rows;

const tls = {
  certFile: {
    ...{ name: "TLS_CERT_FILE", kind: "file", optional: true, words: "none" },
    meaning: "TLS on the main port, with `TLS_KEY_FILE`; files that are replaced are taken up within 10 s",
  },
  keyFile: {
    ...{ name: "TLS_KEY_FILE", kind: "file", optional: true, words: "none" },
    meaning: "the key of `TLS_CERT_FILE`",
  },
  clientCaFile: {
    ...{ name: "TLS_CLIENT_CA_FILE", kind: "file", optional: true, words: "none" },
    meaning: "requires client certificates that one of these authorities has signed",
  },
} as const satisfies Rows;

const log = {
  level: {
    ...{ name: "LOG_LEVEL", kind: "choice", default: "INFO" },
    choices: ["DEBUG", "INFO", "WARNING", "ERROR"],
    meaning: "the least that is written",
  },
  format: {
    ...{ name: "LOG_FORMAT", kind: "choice", default: "json" },
    choices: ["json", "standard"],
    meaning: "`standard` writes lines for people",
  },
} as const satisfies Rows;

const outbound = {
  externalHealthUrls: {
    ...{ name: "EXTERNAL_HEALTH_URLS", kind: "namedUrls", secret: true, default: "" },
    meaning: "asked for the health report",
  },
  torOnly: {
    ...{ name: "TOR_ONLY", kind: "flag", default: "false" },
    meaning: "refuses the store, Redis and health URLs that are neither onions nor inside the cluster",
  },
  torProxyUrl: {
    ...{ name: "TOR_PROXY_URL", kind: "url", protocols: ["socks5:", "socks5h:", "http:"], secret: true },
    ...{ optional: true, words: "none" },
    meaning: "read and checked; nothing goes through the proxy yet, so `TOR_ONLY` refuses the same with it",
  },
} as const satisfies Rows;

/** All rows, where their values are in Settings. Problems are told in this order. */
export const rows = {
  ...{ ...ports, ...identity, ...dataDirectory, mongodb, ...redis, ...keys, heartbeat, ...shutdown, resources },
  ...{ poot, ...signatures, ...payouts, rateLimits, ...callers, tls, log, ...outbound },
} as const satisfies Rows;

/** The same rows in the same order, as operators read them. */
const groups: Readonly<Record<string, Rows>> = {
  "Ports and addresses": ports,
  "What this service is called": identity,
  "Where data lives": { ...dataDirectory, mongodb, ...redis },
  "Keys and tokens": keys,
  "Heartbeats and streams": { ...heartbeat, ...shutdown },
  "Resources of nodes": resources,
  "Proofs of output": { ...poot, ...signatures },
  Payouts: payouts,
  "Limits a minute": rateLimits,
  "What the port takes": { ...callers, tls },
  Logs: log,
  "Calls to the outside": outbound,
};

const isRow = (entry: Row | Rows): entry is Row => typeof entry.kind === "string";

/** The rows of a group and of what is in it. */
export const rowsIn = (of: Rows): Row[] =>
  Object.values(of).flatMap((entry) => (isRow(entry) ? [entry] : rowsIn(entry)));

/** Every variable with its group: for tables, and for programs that write or judge settings. */
export const settingRows: readonly (Row & { readonly group: string })[] = Object.entries(groups).flatMap(
  ([group, of]) => rowsIn(of).map((row) => ({ ...row, group })),
);

/** The rows replaced by what `read` says of each. */
export function mapRows(of: Rows, read: (row: Row) => unknown): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(of).map(([field, entry]) => [field, isRow(entry) ? read(entry) : mapRows(entry, read)]),
  );
}

type Value<R> = R extends { readonly choices: readonly (infer Choice)[] }
  ? Choice
  : R extends { readonly kind: infer K extends Kind }
    ? ValueOf<K>
    : never;

/** What the variables say, by the rows; undefined for those that are not set and have no default of their own. */
export type Given<R = typeof rows> = {
  readonly [Field in keyof R]: R[Field] extends { readonly kind: Kind }
    ? R[Field] extends { readonly default: string }
      ? Value<R[Field]>
      : Value<R[Field]> | undefined
    : Given<R[Field]>;
};

/** What the service runs by: times in milliseconds, nothing undefined but what is optional. */
type Settled<R> = {
  readonly [Field in keyof R]: R[Field] extends { readonly kind: Kind }
    ? R[Field] extends { readonly optional: true }
      ? Value<R[Field]> | undefined
      : Value<R[Field]>
    : Settled<R[Field]>;
};

/** These are made of several variables. */
interface Joined {
  /** Undefined: cleartext. */
  readonly tls:
    | { readonly certFile: string; readonly keyFile: string; readonly clientCaFile: string | undefined }
    | undefined;
  /** Calls a window, by who calls and what. Undefined: nobody is limited. */
  readonly rateLimits: (Omit<Settled<typeof rateLimits>, "enabled"> & { readonly windowMs: number }) | undefined;
  /** By name. */
  readonly externalHealthUrls: Readonly<Record<string, string>>;
}

export type Settings = Omit<Settled<typeof rows>, keyof Joined> & Joined;
