// The settings as data: a row for each variable. Everything else follows from the rows: the type Settings, what
// environment.ts reads, and the tables of docs/operations.md (`make generate`). To add a setting, add its row. Pure.
import type { FieldsOf, Kind, SilentKind, ValueOf } from "./kinds.js";

type RowOf<K extends Kind> = FieldsOf<K> & {
  /** The variable's name in capitals. Any case is accepted. */
  readonly name: string;
  readonly kind: K;
  /** Its purpose, in Markdown. Operators read this, the default and the bounds. */
  readonly meaning: string;
  /** Markdown text for the default of a `derived` row, or for an `optional` one that is not set. */
  readonly words?: string;
  readonly requiredInProduction?: true;
} & Fallback &
  (K extends SilentKind
    ? { /** A key, or what may hold a password: belongs where secrets are kept. */ readonly secret: true }
    : { readonly secret?: never });

/** The meaning of a variable that is not set. */
type Fallback =
  /** The value of this text. */
  | { readonly default: string }
  /** `settle` in rules.ts derives the value from other settings or from the machine. */
  | { readonly derived: true; readonly words: string }
  /** No value. */
  | { readonly optional: true; readonly words: string };

export type Row = { [K in Kind]: RowOf<K> }[Kind];
/** Rows, arranged like their values in Settings. */
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
    meaning:
      "`production` (in any case of letters) makes the settings marked so required, refuses weak keys and listens on all addresses",
  },
  serviceName: {
    ...{ name: "SERVICE_NAME", kind: "text", default: "node-management-service" },
    meaning: "shown in logs, metrics and GetServiceInfo",
  },
  version: {
    ...{ name: "VERSION", kind: "text", derived: true, words: "the version of the package" },
    meaning: "shown in logs, metrics and GetServiceInfo",
  },
  replicaName: {
    ...{ name: "HOSTNAME", kind: "text", derived: true, words: "the machine's" },
    meaning: "the first part of this replica's id, shown in logs",
  },
} as const satisfies Rows;

const dataDirectory = {
  dataDir: {
    ...{ name: "DATA_DIR", kind: "text", default: "./data" },
    meaning:
      "folder of the embedded store (without `MONGODB_URL`) and of the keys that the service made; only one process may use it",
  },
  emptyStoreAllowed: {
    ...{ name: "ALLOW_EMPTY_STORE", kind: "flag", default: "false" },
    meaning:
      "begins an empty store although `DATA_DIR` held one before and its `lucid.db` is empty or missing; set it for one start only",
  },
  storeCheckBytesMax: {
    ...{ name: "STORE_CHECK_SIZE_MAX", kind: "integer", min: 0, max: 1_099_511_627_776, default: "1073741824" },
    meaning:
      "the largest `lucid.db`, in bytes, that is checked at each start (`PRAGMA quick_check`, some seconds for 1 GiB); 0 never checks",
  },
} as const satisfies Rows;

const mongodb = {
  url: {
    ...{ name: "MONGODB_URL", kind: "mongodbUrl", secret: true, optional: true, words: "none" },
    requiredInProduction: true,
    meaning:
      "MongoDB 5.0 or later, with credentials and TLS options in the URL; documents are stored there instead of in `DATA_DIR`",
  },
  database: {
    ...{ name: "MONGODB_DATABASE", kind: "text", default: "lucid" },
    meaning: "the database in MongoDB",
  },
} as const satisfies Rows;

const redis = {
  redisUrl: {
    ...{ name: "REDIS_URL", kind: "url", protocols: ["redis:", "rediss:"], secret: true },
    ...{ optional: true, words: "none", requiredInProduction: true },
    meaning:
      "shares limits and wake-up calls among replicas; required for more than one replica. `?tlsCAFile=` names the authorities to trust. A single server, with or without replicas; see [Redis](#redis)",
  },
} as const satisfies Rows;

const keys = {
  jwtSecretKey: {
    ...{ name: "JWT_SECRET_KEY", kind: "keyRing", secret: true, requiredInProduction: true },
    ...{ optional: true, words: "made and kept in `DATA_DIR`" },
    meaning:
      "signs tokens. For rotation give several pairs: the first signs, all verify; each secret has 32 bytes or more",
  },
  jwtPrivilegedSecretKey: {
    ...{ name: "JWT_PRIVILEGED_SECRET_KEY", kind: "keyRing", secret: true, requiredInProduction: true },
    ...{ optional: true, words: "none" },
    meaning: "if set, only this key signs and verifies payer, approver, admin, refresh and enrolment tokens",
  },
  encryptionKey: {
    ...{ name: "ENCRYPTION_KEY", kind: "key", secret: true, requiredInProduction: true },
    ...{ optional: true, words: "made and kept in `DATA_DIR`" },
    meaning: "encrypts payout addresses; signs challenges (enrolment and PoOT) and page tokens",
  },
  newSecretsAllowed: {
    ...{ name: "ALLOW_NEW_SECRETS", kind: "flag", default: "false" },
    meaning:
      "makes new keys although there is a store in `DATA_DIR`; its tokens and encrypted payout addresses become useless",
  },
  secretsGroupReadable: {
    ...{ name: "SECRETS_GROUP_READABLE", kind: "flag", default: "false" },
    meaning:
      "also accepts mode 640 or 440 for `secrets.json`, `agent.json` and `TLS_KEY_FILE`; otherwise any mode wider than 600 is refused. Kubernetes mounts secrets with 644 unless the volume says `defaultMode: 0440`. A volume with an `fsGroup` needs `fsGroupChangePolicy: OnRootMismatch`, or each mount sets its files to 660",
  },
  tokenTtlMaxMs: {
    ...{ name: "TOKEN_TTL_MAX", kind: "seconds", min: 60, max: 86_400, default: "86400" },
    meaning:
      "the longest lifetime of a token that the service issues, including refresh tokens; IssueToken refuses a longer `ttl`, and longer default lifetimes are shortened to it",
  },
} as const satisfies Rows;

const heartbeat = {
  intervalMs: {
    ...{ name: "NODE_HEARTBEAT_INTERVAL", kind: "seconds", min: 1, max: 3600, default: "30" },
    meaning: "time between beats; longer for a fleet so large that it would exceed `HEARTBEAT_RATE_MAX`",
  },
  graceMs: {
    ...{ name: "HEARTBEAT_GRACE", kind: "seconds", min: 1, max: 86_400, derived: true, words: "max(interval, 10)" },
    meaning: "silence after the interval until a node is DISCONNECTED",
  },
  lostAfterMs: {
    ...{ name: "HEARTBEAT_LOST_AFTER", kind: "seconds", min: 1, max: 604_800 },
    ...{ optional: true, words: "max(300, 2 x (interval + grace))" },
    meaning: "silence until a node is LOST",
  },
  rateMax: {
    ...{ name: "HEARTBEAT_RATE_MAX", kind: "integer", min: 1, max: 1_000_000, default: "2000" },
    meaning: "beats per second and replica",
  },
  streamsMax: {
    ...{ name: "STREAMS_MAX", kind: "integer", min: 1, max: 1_000_000, default: "20000" },
    meaning: "streams per replica",
  },
  streamLifetimeMs: {
    ...{ name: "STREAM_LIFETIME", kind: "seconds", min: 1, max: 86_400, default: "1800" },
    meaning: "a stream is renewed after this time, plus or minus a fifth",
  },
  commandTimeoutMs: {
    ...{ name: "NODE_COMMAND_TIMEOUT", kind: "seconds", min: 1, max: 3600, default: "60" },
    meaning: "a connected node that does not answer start, stop or restart in this time goes to ERROR",
  },
} as const satisfies Rows;

const shutdown = {
  drainWindowMs: {
    ...{ name: "DRAIN_WINDOW", kind: "seconds", min: 0, max: 600, default: "5" },
    meaning: "time over which streams end at shutdown",
  },
} as const satisfies Rows;

const resources = {
  collectionIntervalMs: {
    ...{ name: "RESOURCE_COLLECTION_INTERVAL", kind: "seconds", min: 1, max: 86_400, default: "60" },
    meaning: "time between samples of a machine",
  },
  retentionDays: {
    ...{ name: "RESOURCE_RETENTION_DAYS", kind: "integer", min: 1, max: 3650, default: "90" },
    meaning: "days that samples and cleared alerts are kept (hourly figures: a year)",
  },
  cleanupIntervalMs: {
    ...{ name: "RESOURCE_CLEANUP_INTERVAL", kind: "seconds", min: 1, max: 86_400, default: "3600" },
    meaning: "how often older samples and alerts are deleted",
  },
} as const satisfies Rows;

const poot = {
  validationTimeoutMs: {
    ...{ name: "POOT_VALIDATION_TIMEOUT", kind: "seconds", min: 1, max: 3600, default: "30" },
    meaning: "a proof not judged in this time is refused; its nonce can still be used",
  },
  outputBytesMax: {
    ...{ name: "MAX_OUTPUT_DATA_SIZE", kind: "integer", min: 1, max: 1_048_576, default: "1048576" },
    meaning: "largest output of a proof, in bytes",
  },
  clockSkewMs: {
    ...{ name: "POOT_CLOCK_SKEW_SECONDS", kind: "seconds", min: 0, max: 3600, default: "60" },
    meaning: "how far ahead of the service a proof's timestamp may be",
  },
  challengesRequired: {
    ...{ name: "POOT_CHALLENGES_REQUIRED", kind: "flag", default: "false" },
    meaning: "accepts only nonces from IssuePoOTChallenge",
  },
  sharedOutputEvents: {
    ...{ name: "POOT_SHARED_OUTPUT_EVENTS", kind: "flag", default: "false" },
    meaning: "warns when two nodes prove the same output within 24 h",
  },
} as const satisfies Rows;

const signatures = {
  hardwareValidationEnabled: {
    ...{ name: "HARDWARE_VALIDATION_ENABLED", kind: "flag", default: "false" },
    meaning: "accepts only proofs signed with the node's pinned key",
  },
} as const satisfies Rows;

const payoutAddresses = {
  payoutAddressCooldownMs: {
    ...{ name: "PAYOUT_ADDRESS_COOLDOWN", kind: "seconds", min: 0, max: 2_592_000, default: "86400" },
    meaning: "waiting time after a payout address changes",
  },
} as const satisfies Rows;

const unlimited = { kind: "amount", optional: true, words: "none" } as const;
const approvalMeaning =
  "a payout, or a batch by its sum, above this amount waits for ApprovePayout by another person; 0 holds every payout";
const dailyLimitMeaning =
  "the most that is sent in one day (UTC); the queue waits at the limit, and no payout fails by it";
const walletFloorMeaning =
  "what must stay in the wallet; the queue waits when the next payout would leave less, and no payout fails by it";
const gatewayChoices = ["sandbox"] as const;
const gateway = { kind: "choice", choices: gatewayChoices, optional: true } as const;
const gatewayWords = "`sandbox`; in production none";
const gatewayMeaning =
  "the chain that pays this currency. `sandbox` is a chain inside the service that moves no money, refused in production; without a gateway the currency cannot be paid";
const payouts = {
  batchSize: {
    ...{ name: "PAYOUT_BATCH_SIZE", kind: "integer", min: 1, max: 1000, default: "100" },
    meaning: "payouts that a worker takes at once",
  },
  maxRetries: {
    ...{ name: "PAYOUT_MAX_RETRIES", kind: "integer", min: 0, max: 5, default: "3" },
    meaning: "further transactions of one payout, each after proof that the former one is dead or was reverted",
  },
  claimMs: {
    ...{ name: "PAYOUT_CLAIM_SECONDS", kind: "seconds", min: 5, max: 3600, default: "60" },
    meaning:
      "how long a worker's claim on a payout lasts; when a worker has crashed, another one goes on after that time",
  },
  approvalThreshold: {
    USDT: {
      ...{ name: "PAYOUT_APPROVAL_THRESHOLD_USDT", ...unlimited, currency: "USDT" },
      meaning: approvalMeaning,
    },
    LUCID: {
      ...{ name: "PAYOUT_APPROVAL_THRESHOLD_LUCID", ...unlimited, currency: "LUCID" },
      meaning: approvalMeaning,
    },
  },
  dailyLimit: {
    USDT: { ...{ name: "PAYOUT_DAILY_LIMIT_USDT", ...unlimited, currency: "USDT" }, meaning: dailyLimitMeaning },
    LUCID: { ...{ name: "PAYOUT_DAILY_LIMIT_LUCID", ...unlimited, currency: "LUCID" }, meaning: dailyLimitMeaning },
  },
  walletFloor: {
    USDT: { ...{ name: "PAYOUT_WALLET_FLOOR_USDT", ...unlimited, currency: "USDT" }, meaning: walletFloorMeaning },
    LUCID: { ...{ name: "PAYOUT_WALLET_FLOOR_LUCID", ...unlimited, currency: "LUCID" }, meaning: walletFloorMeaning },
  },
  gateway: {
    USDT: { ...{ name: "PAYOUT_GATEWAY_USDT", ...gateway, words: gatewayWords }, meaning: gatewayMeaning },
    LUCID: { ...{ name: "PAYOUT_GATEWAY_LUCID", ...gateway, words: gatewayWords }, meaning: gatewayMeaning },
  },
} as const satisfies Rows;

const sandbox = {
  blockMs: {
    ...{ name: "SANDBOX_BLOCK_TIME", kind: "integer", min: 10, max: 60_000, default: "3000" },
    meaning: "milliseconds between blocks of the sandbox chain; a payout is settled some 20 blocks after it was sent",
  },
  faults: {
    ...{ name: "SANDBOX_FAULTS", kind: "faults", default: "" },
    meaning:
      "faults of the sandbox chain on demand, such as `lost=0.1,away=0.05`: how likely each is at each send or read",
  },
} as const satisfies Rows;

const work = {
  roles: {
    ...{ name: "ROLES", kind: "roles", default: "api,payouts" },
    meaning:
      "what this replica does: `api` answers callers, `payouts` makes payouts. With both apart, the signing key need not live beside untrusted streams",
  },
} as const satisfies Rows;

const perMinute = { kind: "integer", min: 1, max: 10_000_000 } as const;
const rateLimits = {
  enabled: {
    ...{ name: "RATE_LIMIT_ENABLED", kind: "flag", default: "true" },
    meaning: "switches the limits below on or off",
  },
  authenticated: {
    ...{ name: "RATE_LIMIT_PER_MINUTE", ...perMinute, default: "1000" },
    meaning: "calls of one token's subject",
  },
  admin: {
    ...{ name: "RATE_LIMIT_ADMIN_PER_MINUTE", ...perMinute, default: "10000" },
    meaning: "calls of one admin",
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
    meaning: "payout calls of one subject",
  },
} as const satisfies Rows;

const callers = {
  maxRequestBytes: {
    ...{ name: "MAX_REQUEST_SIZE", kind: "integer", min: 1024, max: 104_857_600, default: "10485760" },
    meaning:
      "largest BatchValidatePoOT request, in bytes; ValidatePoOT takes at most 1.5 MiB of it, any other RPC 256 KiB, a batch in JSON 5 MiB",
  },
  connectionsPerAddressMax: {
    ...{ name: "CONNECTIONS_PER_ADDRESS_MAX", kind: "integer", min: 1, max: 1_000_000, default: "10000" },
    meaning:
      "connections of one IPv4 address or one IPv6 /64, at most half of all connections; trusted proxies have no such limit. Raise it for a fleet behind one NAT or address-rewriting balancer, or add the balancer to `TRUSTED_PROXIES`",
  },
  trustedProxies: {
    ...{ name: "TRUSTED_PROXIES", kind: "ranges", default: "" },
    meaning: "proxies whose `X-Forwarded-For` is believed; limits by address then count the client's address",
  },
  corsAllowedOrigins: {
    ...{ name: "CORS_ALLOWED_ORIGINS", kind: "origins", default: "" },
    meaning: "browsers' origins",
  },
  // Reflection shows strangers the whole API, so it is on only in development.
  reflectionEnabled: {
    ...{ name: "REFLECTION_ENABLED", kind: "flag", derived: true, words: "true; in production false" },
    meaning: "gRPC reflection",
  },
} as const satisfies Rows;

const tls = {
  certFile: {
    ...{ name: "TLS_CERT_FILE", kind: "file", optional: true, words: "none" },
    meaning: "TLS on the main port, with `TLS_KEY_FILE`; replaced files are loaded within 10 s",
  },
  keyFile: {
    ...{ name: "TLS_KEY_FILE", kind: "file", optional: true, words: "none" },
    meaning: "the private key of `TLS_CERT_FILE`",
  },
  clientCaFile: {
    ...{ name: "TLS_CLIENT_CA_FILE", kind: "file", optional: true, words: "none" },
    meaning: "requires client certificates signed by one of these authorities",
  },
} as const satisfies Rows;

const log = {
  level: {
    ...{ name: "LOG_LEVEL", kind: "choice", default: "INFO" },
    choices: ["DEBUG", "INFO", "WARNING", "ERROR"],
    meaning: "the lowest level that is written",
  },
  format: {
    ...{ name: "LOG_FORMAT", kind: "choice", default: "json" },
    choices: ["json", "standard"],
    meaning: "`standard` writes lines for people to read",
  },
} as const satisfies Rows;

const outbound = {
  externalHealthUrls: {
    ...{ name: "EXTERNAL_HEALTH_URLS", kind: "namedUrls", secret: true, default: "" },
    meaning: "services to check for the health report",
  },
  torOnly: {
    ...{ name: "TOR_ONLY", kind: "flag", default: "false" },
    meaning: "refuses URLs of the store, Redis and health checks that lead neither to an onion nor inside the cluster",
  },
  torProxyUrl: {
    ...{ name: "TOR_PROXY_URL", kind: "url", protocols: ["socks5:", "socks5h:", "http:"], secret: true },
    ...{ optional: true, words: "none" },
    meaning: "read and checked, but the proxy is not used yet, so `TOR_ONLY` refuses the same URLs with it",
  },
} as const satisfies Rows;

/** All rows, arranged like their values in Settings. Problems are reported in this order. */
export const rows = {
  ...{ ...ports, ...identity, ...dataDirectory, mongodb, ...redis, ...keys, heartbeat, ...shutdown, resources },
  ...{
    poot,
    ...signatures,
    ...payoutAddresses,
    payouts,
    sandbox,
    ...work,
    rateLimits,
    ...callers,
    tls,
    log,
    ...outbound,
  },
} as const satisfies Rows;

/** The same rows in the same order, grouped for operators. */
const groups: Readonly<Record<string, Rows>> = {
  "Ports and addresses": ports,
  "What this service is called": identity,
  "Where data lives": { ...dataDirectory, mongodb, ...redis },
  "Keys and tokens": keys,
  "Heartbeats and streams": { ...heartbeat, ...shutdown },
  "Resources of nodes": resources,
  "Proofs of output": { ...poot, ...signatures },
  Payouts: { ...payoutAddresses, payouts, sandbox, ...work },
  "Limits a minute": rateLimits,
  "What the port takes": { ...callers, tls },
  Logs: log,
  "Calls to the outside": outbound,
};

const isRow = (entry: Row | Rows): entry is Row => typeof entry.kind === "string";

/** The rows of a group and of its subgroups. */
export const rowsIn = (of: Rows): Row[] =>
  Object.values(of).flatMap((entry) => (isRow(entry) ? [entry] : rowsIn(entry)));

/** Every variable with its group, for tables and for programs that write or check settings. */
export const settingRows: readonly (Row & { readonly group: string })[] = Object.entries(groups).flatMap(
  ([group, of]) => rowsIn(of).map((row) => ({ ...row, group })),
);

/** Replaces each row by the result of `read`. */
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

/** The variables' values, arranged like the rows; undefined for a variable that is not set and has no fixed default. */
export type Given<R = typeof rows> = {
  readonly [Field in keyof R]: R[Field] extends { readonly kind: Kind }
    ? R[Field] extends { readonly default: string }
      ? Value<R[Field]>
      : Value<R[Field]> | undefined
    : Given<R[Field]>;
};

/** The service's settings: times in milliseconds; only optional settings may be undefined. */
type Settled<R> = {
  readonly [Field in keyof R]: R[Field] extends { readonly kind: Kind }
    ? R[Field] extends { readonly optional: true }
      ? Value<R[Field]> | undefined
      : Value<R[Field]>
    : Settled<R[Field]>;
};

/** Settings that are made of several variables. */
interface Joined {
  /** Undefined: cleartext. */
  readonly tls:
    | { readonly certFile: string; readonly keyFile: string; readonly clientCaFile: string | undefined }
    | undefined;
  /** Calls per window, by caller and kind of call. Undefined: there is no limit. */
  readonly rateLimits: (Omit<Settled<typeof rateLimits>, "enabled"> & { readonly windowMs: number }) | undefined;
  /** By name. */
  readonly externalHealthUrls: Readonly<Record<string, string>>;
}

export type Settings = Omit<Settled<typeof rows>, keyof Joined> & Joined;
