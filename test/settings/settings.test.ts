// Settings: each variable with its default, a good value and bad ones; where values come from; what production needs.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseKeyRing } from "../../src/access/keyring.js";
import { parseSettings, readClientTokens, readEnvironment, SettingsError } from "../../src/settings/environment.js";
import { type Settings, settingRows } from "../../src/settings/settings.js";

const key = Buffer.from("0123456789abcdefghijklmnopqrstuv").toString("base64");
const secret = "0123456789-abcdefghij-0123456789";

interface Row {
  readonly name: string;
  readonly of: (settings: Settings) => unknown;
  readonly fallback: unknown;
  readonly good: readonly (readonly [string, unknown])[];
  readonly bad: readonly string[];
}
const row = (name: string, of: Row["of"], fallback: unknown, good: Row["good"], bad: Row["bad"]): [string, Row] => [
  name,
  { name, of, fallback, good, bad },
];

const notNumbers = ["x", "-1", "1e3", "0x10", "1,5", "NaN", "Infinity", " "];
const flags: Row["good"] = [
  ["true", true],
  ["1", true],
  ["YES", true],
  ["on", true],
  ["false", false],
  ["0", false],
  ["No", false],
  ["off", false],
];

/** The rows of an amount for each currency: read as minor units, never rounded. */
const amounts = (
  prefix: string,
  of: (settings: Settings) => Readonly<Record<"USDT" | "LUCID", bigint | undefined>>,
): [string, Row][] => {
  const bad = ["x", "-1", "+1", "1e3", "0x10", "1,5", "01", ".5", "1.", " 1", "1 ", "１", "1".repeat(40)];
  const usdt: Row["good"] = [
    ["0", 0n],
    ["12.5", 12_500_000n],
    ["9007199254.740993", 9_007_199_254_740_993n],
  ];
  return [
    row(`${prefix}_USDT`, (s) => of(s).USDT, undefined, usdt, [...bad, "0.0000001"]),
    row(`${prefix}_LUCID`, (s) => of(s).LUCID, undefined, [["0.00000001", 1n]], [...bad, "0.000000001"]),
  ];
};

const rows: [string, Row][] = [
  row("SERVICE_NAME", (s) => s.serviceName, "node-management-service", [["other", "other"]], []),
  row("VERSION", (s) => s.version, "1.0.0", [["2.1.0", "2.1.0"]], []),
  row(
    "PORT",
    (s) => s.port,
    8083,
    [
      ["0", 0],
      ["65535", 65535],
    ],
    [...notNumbers, "65536", "1.5"],
  ),
  row("METRICS_PORT", (s) => s.metricsPort, 9090, [["9999", 9999]], ["65536", "x"]),
  row(
    "HOST",
    (s) => s.host,
    "127.0.0.1",
    [
      ["0.0.0.0", "0.0.0.0"],
      ["fe80::1%eth0", "fe80::1%eth0"],
      ["node_1.lucid-net.example", "node_1.lucid-net.example"],
    ],
    ["http://host", "host:80", "[::1]", "a b", "999.1.1.1", "::g"],
  ),
  row("METRICS_HOST", (s) => s.metricsHost, "127.0.0.1", [["::1", "::1"]], ["host/path"]),
  row("ENVIRONMENT", (s) => s.environment, "development", [["staging", "staging"]], []),
  row("DATA_DIR", (s) => s.dataDir, "./data", [["/var/lib/lucid", "/var/lib/lucid"]], []),
  row("SECRETS_GROUP_READABLE", (s) => s.secretsGroupReadable, false, flags, ["maybe"]),
  row("ALLOW_EMPTY_STORE", (s) => s.emptyStoreAllowed, false, flags, ["maybe"]),
  row("STORE_CHECK_SIZE_MAX", (s) => s.storeCheckBytesMax, 1_073_741_824, [["0", 0]], ["-1", "1.5"]),
  row("ALLOW_NEW_SECRETS", (s) => s.newSecretsAllowed, false, flags, ["maybe"]),
  row("HOSTNAME", (s) => s.replicaName, hostname(), [["pod-7", "pod-7"]], []),
  row(
    "MONGODB_URL",
    (s) => s.mongodb.url,
    undefined,
    [
      ["mongodb://u:p@host:27017/lucid?authSource=admin", "mongodb://u:p@host:27017/lucid?authSource=admin"],
      ["mongodb+srv://host/lucid", "mongodb+srv://host/lucid"],
      ["mongodb://u:p@a:27017,b:27018,c/lucid?replicaSet=rs", "mongodb://u:p@a:27017,b:27018,c/lucid?replicaSet=rs"],
    ],
    ["host:27017", "http://host", "nonsense", "mongodb://", "mongodb://a,,b", "mongodb://a:port"],
  ),
  row("MONGODB_DATABASE", (s) => s.mongodb.database, "lucid", [["other", "other"]], []),
  row(
    "REDIS_URL",
    (s) => s.redisUrl,
    undefined,
    [
      ["redis://localhost:6379/0", "redis://localhost:6379/0"],
      ["rediss://host:6380/1", "rediss://host:6380/1"],
    ],
    ["localhost:6379", "http://host"],
  ),
  row("JWT_SECRET_KEY", (s) => s.jwtSecretKey, undefined, [[secret, secret]], ["short", "changeme".repeat(8)]),
  row(
    "JWT_PRIVILEGED_SECRET_KEY",
    (s) => s.jwtPrivilegedSecretKey,
    undefined,
    [[`k2:${secret}`, `k2:${secret}`]],
    ["short", `k1:${secret},k2:short`, "a".repeat(64)],
  ),
  row("ENCRYPTION_KEY", (s) => s.encryptionKey, undefined, [[key, key]], ["short", key.slice(4), `${key}AAAA`]),
  row(
    "NODE_HEARTBEAT_INTERVAL",
    (s) => s.heartbeat.intervalMs,
    30_000,
    [
      ["1", 1_000],
      ["1.5", 1_500],
      ["3600", 3_600_000],
    ],
    [...notNumbers, "0", "3601"],
  ),
  row("HEARTBEAT_GRACE", (s) => s.heartbeat.graceMs, 30_000, [["5", 5_000]], ["0", "x"]),
  row("HEARTBEAT_LOST_AFTER", (s) => s.heartbeat.lostAfterMs, undefined, [["9", 9_000]], ["0", "x"]),
  row("HEARTBEAT_RATE_MAX", (s) => s.heartbeat.rateMax, 2_000, [["1", 1]], ["0", "1.5"]),
  row("STREAMS_MAX", (s) => s.heartbeat.streamsMax, 20_000, [["5", 5]], ["0", "x"]),
  row("STREAM_LIFETIME", (s) => s.heartbeat.streamLifetimeMs, 1_800_000, [["60", 60_000]], ["0", "x"]),
  row("NODE_COMMAND_TIMEOUT", (s) => s.heartbeat.commandTimeoutMs, 60_000, [["5", 5_000]], ["0", "x"]),
  row(
    "RESOURCE_COLLECTION_INTERVAL",
    (s) => s.resources.collectionIntervalMs,
    60_000,
    [["10", 10_000]],
    [...notNumbers, "0"],
  ),
  row("RESOURCE_RETENTION_DAYS", (s) => s.resources.retentionDays, 90, [["1", 1]], ["0", "1.5"]),
  row("RESOURCE_CLEANUP_INTERVAL", (s) => s.resources.cleanupIntervalMs, 3_600_000, [["60", 60_000]], ["0", "x"]),
  row("POOT_VALIDATION_TIMEOUT", (s) => s.poot.validationTimeoutMs, 30_000, [["5", 5_000]], ["0", "x"]),
  row("MAX_OUTPUT_DATA_SIZE", (s) => s.poot.outputBytesMax, 1_048_576, [["1", 1]], ["0", "1048577", "x"]),
  row("POOT_CLOCK_SKEW_SECONDS", (s) => s.poot.clockSkewMs, 60_000, [["0", 0]], ["3601", "x"]),
  row("POOT_CHALLENGES_REQUIRED", (s) => s.poot.challengesRequired, false, flags, ["maybe"]),
  row("POOT_SHARED_OUTPUT_EVENTS", (s) => s.poot.sharedOutputEvents, false, flags, ["maybe"]),
  row("PAYOUT_BATCH_SIZE", (s) => s.payouts.batchSize, 100, [["1000", 1000]], ["0", "1001", "1.5"]),
  row(
    "PAYOUT_MAX_RETRIES",
    (s) => s.payouts.maxRetries,
    3,
    [
      ["0", 0],
      ["5", 5],
    ],
    [...notNumbers, "6", "1.5"],
  ),
  row(
    "PAYOUT_CLAIM_SECONDS",
    (s) => s.payouts.claimMs,
    60_000,
    [
      ["5", 5_000],
      ["3600", 3_600_000],
    ],
    [...notNumbers, "4.9", "3601"],
  ),
  ...amounts("PAYOUT_APPROVAL_THRESHOLD", (s) => s.payouts.approvalThreshold),
  ...amounts("PAYOUT_DAILY_LIMIT", (s) => s.payouts.dailyLimit),
  ...amounts("PAYOUT_WALLET_FLOOR", (s) => s.payouts.walletFloor),
  row("PAYOUT_GATEWAY_USDT", (s) => s.payouts.gateway.USDT, "sandbox", [["SANDBOX", "sandbox"]], ["tron", "none"]),
  row("PAYOUT_GATEWAY_LUCID", (s) => s.payouts.gateway.LUCID, "sandbox", [["sandbox", "sandbox"]], ["tron", "none"]),
  row(
    "SANDBOX_BLOCK_TIME",
    (s) => s.sandbox.blockMs,
    3_000,
    [
      ["10", 10],
      ["60000", 60_000],
    ],
    [...notNumbers, "9", "60001", "10.5"],
  ),
  row(
    "SANDBOX_FAULTS",
    (s) => s.sandbox.faults,
    "",
    [
      ["lost=0.1", "lost=0.1"],
      ["lost=1, late=0.05", "lost=1, late=0.05"],
    ],
    ["lost", "lost=2", "lost=-1", "lost=0.1,lost=0.1", "fire=0.1", "lost=0.1;late=0.1"],
  ),
  row(
    "ROLES",
    (s) => s.roles,
    ["api", "payouts"],
    [
      ["api", ["api"]],
      [" Payouts ,api", ["payouts", "api"]],
    ],
    ["worker", ","],
  ),
  row(
    "TOKEN_TTL_MAX",
    (s) => s.tokenTtlMaxMs,
    86_400_000,
    [
      ["60", 60_000],
      ["900", 900_000],
    ],
    [...notNumbers, "59", "86401"],
  ),
  row("PAYOUT_ADDRESS_COOLDOWN", (s) => s.payoutAddressCooldownMs, 86_400_000, [["0", 0]], ["x", "2592001"]),
  row(
    "LOG_LEVEL",
    (s) => s.log.level,
    "INFO",
    [
      ["debug", "DEBUG"],
      ["WARNING", "WARNING"],
    ],
    ["verbose", "TRACE"],
  ),
  row("LOG_FORMAT", (s) => s.log.format, "json", [["STANDARD", "standard"]], ["xml"]),
  row("RATE_LIMIT_ENABLED", (s) => s.rateLimits !== undefined, true, flags, ["maybe", "2"]),
  row("RATE_LIMIT_PER_MINUTE", (s) => s.rateLimits?.authenticated, 1000, [["1", 1]], [...notNumbers, "0"]),
  row("RATE_LIMIT_PUBLIC_PER_MINUTE", (s) => s.rateLimits?.public, 100, [["7", 7]], ["0"]),
  row("RATE_LIMIT_ADMIN_PER_MINUTE", (s) => s.rateLimits?.admin, 10_000, [["7", 7]], ["0"]),
  row("RATE_LIMIT_POOT_PER_MINUTE", (s) => s.rateLimits?.poot, 100, [["7", 7]], ["0"]),
  row("RATE_LIMIT_PAYOUT_PER_MINUTE", (s) => s.rateLimits?.payout, 50, [["7", 7]], ["0"]),
  row("TOR_ONLY", (s) => s.torOnly, false, flags, ["maybe"]),
  row(
    "TOR_PROXY_URL",
    (s) => s.torProxyUrl,
    undefined,
    [["socks5h://tor:9050", "socks5h://tor:9050"]],
    ["tor:9050", "ftp://tor"],
  ),
  row("HARDWARE_VALIDATION_ENABLED", (s) => s.hardwareValidationEnabled, false, flags, ["maybe"]),
  row("REFLECTION_ENABLED", (s) => s.reflectionEnabled, true, flags, ["maybe"]),
  row("CONNECTIONS_PER_ADDRESS_MAX", (s) => s.connectionsPerAddressMax, 10_000, [["7", 7]], ["0", "x"]),
  row(
    "TRUSTED_PROXIES",
    (s) => s.trustedProxies,
    [],
    [["10.0.0.0/8, 2001:db8::/32,192.0.2.1", ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"]]],
    ["10.0.0.0/33", "10.0.0", "proxy.example", "2001:db8::/129", "10.0.0.1/"],
  ),
  row("MAX_REQUEST_SIZE", (s) => s.maxRequestBytes, 10_485_760, [["1024", 1024]], ["1023", "x", "1.5"]),
  row(
    "CORS_ALLOWED_ORIGINS",
    (s) => s.corsAllowedOrigins,
    [],
    [["https://a.example, http://b.example:8080", ["https://a.example", "http://b.example:8080"]]],
    ["a.example", "https://a.example/", "*", "https://a.example/path"],
  ),
  row(
    "EXTERNAL_HEALTH_URLS",
    (s) => s.externalHealthUrls,
    {},
    [["gateway=https://g.example/health?a=b, b=http://b", { gateway: "https://g.example/health?a=b", b: "http://b" }]],
    ["gateway", "g=ftp://x", "https://g.example"],
  ),
  row("DRAIN_WINDOW", (s) => s.drainWindowMs, 5_000, [["0", 0]], ["601", "x"]),
];

const problemsOf = (environment: Record<string, string>): readonly string[] => {
  try {
    parseSettings(environment);
    return [];
  } catch (error) {
    if (error instanceof SettingsError) return error.problems;
    throw error;
  }
};

describe("each variable", () => {
  test.each(rows)("%s", (name, { of, fallback, good, bad }) => {
    expect(of(parseSettings({}))).toEqual(fallback);
    for (const [value, expected] of good) expect(of(parseSettings({ [name]: value }))).toEqual(expected);
    for (const value of bad) {
      const problems = problemsOf({ [name]: value });
      expect({ value, problems: problems.length }).toEqual({ value, problems: 1 });
      expect(problems[0]).toContain(name);
    }
  });

  test("that there is has its lines here", () => {
    const tried = [...rows.map(([name]) => name), "TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE"];
    expect(tried.sort()).toEqual(settingRows.map(({ name }) => name).sort());
  });

  test("that holds a secret is not repeated in its problem", () => {
    const problems = problemsOf({
      MONGODB_URL: "postgres://user:hunter2@host",
      REDIS_URL: "http://:hunter2@host",
      ENCRYPTION_KEY: "hunter2",
      JWT_SECRET_KEY: "hunter2",
      TOR_PROXY_URL: "ftp://u:hunter2@host",
      EXTERNAL_HEALTH_URLS: "a=ftp://u:hunter2@host",
    });
    expect(problems).toHaveLength(6);
    expect(problems.join()).not.toContain("hunter2");
  });
});

describe("settings that belong together", () => {
  test("the grace follows the interval, and is 10 s at least", () => {
    expect(parseSettings({ NODE_HEARTBEAT_INTERVAL: "2" }).heartbeat.graceMs).toBe(10_000);
    expect(parseSettings({ NODE_HEARTBEAT_INTERVAL: "120" }).heartbeat.graceMs).toBe(120_000);
  });

  test("the metrics host follows the host", () => {
    expect(parseSettings({ HOST: "0.0.0.0" }).metricsHost).toBe("0.0.0.0");
  });

  test("all problems are said at once", () => {
    const problems = problemsOf({ PORT: "x", LOG_LEVEL: "x", TOR_ONLY: "x", PAYOUT_BATCH_SIZE: "0" });
    expect(problems.map((problem) => problem.split(":")[0])).toEqual([
      "PORT",
      "PAYOUT_BATCH_SIZE",
      "LOG_LEVEL",
      "TOR_ONLY",
    ]);
    expect(() => parseSettings({ PORT: "x", LOG_LEVEL: "x" })).toThrow(/PORT[\s\S]*LOG_LEVEL/);
  });

  test("a variable is told of once, and rules go by the rest", () => {
    const problems = problemsOf({
      ...{ ENVIRONMENT: "production", MONGODB_URL: "mongodb://host", JWT_SECRET_KEY: secret, ENCRYPTION_KEY: "x" },
      ...{ REDIS_URL: "http://host", TLS_CERT_FILE: "/nowhere", TLS_KEY_FILE: new URL(import.meta.url).pathname },
      ...{ TOR_ONLY: "true", EXTERNAL_HEALTH_URLS: "one,two=http://two.example" },
    });
    expect(problems).toEqual([
      expect.stringMatching(/^REDIS_URL: not a URL/),
      "ENCRYPTION_KEY: not the base64 of 32 bytes",
      "TLS_CERT_FILE: /nowhere does not exist",
      "EXTERNAL_HEALTH_URLS: not a URL that begins with http:// or https://",
      "JWT_PRIVILEGED_SECRET_KEY: required when ENVIRONMENT=production",
      "EXTERNAL_HEALTH_URLS (two): TOR_ONLY refuses http://two.example",
    ]);
  });

  test("TLS needs certificate and key, and files that are there", () => {
    const file = new URL(import.meta.url).pathname;
    expect(parseSettings({ TLS_CERT_FILE: file, TLS_KEY_FILE: file }).tls).toEqual({
      certFile: file,
      keyFile: file,
      clientCaFile: undefined,
    });
    expect(problemsOf({ TLS_CERT_FILE: file })).toEqual(["TLS_CERT_FILE and TLS_KEY_FILE: give both or none"]);
    expect(problemsOf({ TLS_CLIENT_CA_FILE: file })[0]).toContain("TLS_CLIENT_CA_FILE");
    expect(problemsOf({ TLS_CERT_FILE: "/nowhere", TLS_KEY_FILE: file })[0]).toContain("does not exist");
  });
});

describe("production", () => {
  const whole = {
    ENVIRONMENT: "production",
    MONGODB_URL: "mongodb://host/lucid",
    REDIS_URL: "redis://host",
    JWT_SECRET_KEY: secret,
    JWT_PRIVILEGED_SECRET_KEY: `${secret}-privileged`,
    ENCRYPTION_KEY: key,
  };

  test("starts with everything it asks for, and listens to the outside", () => {
    expect(parseSettings(whole)).toMatchObject({ environment: "production", host: "::" });
  });

  test.each(Object.keys(whole).slice(1))("does not start without %s", (name) => {
    const { [name as keyof typeof whole]: _, ...rest } = whole;
    expect(problemsOf(rest)).toEqual([`${name}: required when ENVIRONMENT=production`]);
  });

  test("pays nothing by the sandbox: not by default, and not by its name", () => {
    expect(parseSettings(whole).payouts.gateway).toEqual({ USDT: undefined, LUCID: undefined });
    expect(problemsOf({ ...whole, PAYOUT_GATEWAY_USDT: "Sandbox" })).toEqual([
      "PAYOUT_GATEWAY_USDT: the sandbox moves no money, so production refuses it",
    ]);
    expect(problemsOf({ ...whole, PAYOUT_GATEWAY_LUCID: "sandbox" })[0]).toContain("PAYOUT_GATEWAY_LUCID");
  });

  test("names all that is missing at once", () => {
    expect(problemsOf({ ENVIRONMENT: "production" })).toHaveLength(5);
  });

  test.each([
    ["JWT_SECRET_KEY", "x".repeat(64)],
    ["JWT_SECRET_KEY", "change-me-please-0123456789-0123456789"],
    ["JWT_PRIVILEGED_SECRET_KEY", "your-secret-key-0123456789-0123456789"],
    ["JWT_SECRET_KEY", `${secret},`],
    ["ENCRYPTION_KEY", Buffer.alloc(32).toString("base64")],
    ["ENCRYPTION_KEY", Buffer.alloc(32, "abcdefgh").toString("base64")],
  ])("refuses a weak %s: %s", (name, value) => {
    expect(problemsOf({ ...whole, [name]: value })[0]).toContain(name);
  });

  test("refuses one secret for both keys: whoever verifies could mint power", () => {
    expect(problemsOf({ ...whole, JWT_PRIVILEGED_SECRET_KEY: secret })[0]).toContain("JWT_PRIVILEGED_SECRET_KEY");
    const shared = `k9:${secret}`;
    expect(problemsOf({ ...whole, JWT_PRIVILEGED_SECRET_KEY: shared })[0]).toContain("JWT_PRIVILEGED_SECRET_KEY");
  });

  test("is meant in any case of its name", () => {
    for (const name of ["PRODUCTION", "Production"]) {
      expect(problemsOf({ ENVIRONMENT: name }).length).toBeGreaterThan(0);
    }
  });
});

describe("TOR_ONLY", () => {
  const tor = (url: string, more: Record<string, string> = {}) =>
    problemsOf({ TOR_ONLY: "true", EXTERNAL_HEALTH_URLS: `gateway=${url}`, ...more });

  test.each([
    "http://abcdefghijklmnop.onion/health",
    "http://gateway:8080/health",
    "http://gateway.payments.svc/health",
    "http://gateway.payments.svc.cluster.local/health",
    "http://127.0.0.1:9000",
    "http://[::1]:9000",
    "http://localhost",
  ])("lets %s pass", (url) => {
    expect(tor(url)).toEqual([]);
  });

  test.each([
    "https://gateway.example/health",
    "http://10.0.0.5",
    "http://8.8.8.8",
    "http://onion.example",
    "http://127.0.0.1.example.com",
    "http://127.evil.com",
    "http://[2001:db8::1]",
    "http://localhost.example",
  ])("refuses %s", (url) => {
    expect(tor(url)[0]).toContain("TOR_ONLY");
    // The service sends nothing through the proxy yet.
    expect(tor(url, { TOR_PROXY_URL: "socks5h://tor:9050" })).toEqual(tor(url));
  });

  test("holds for the stores, which no proxy carries", () => {
    const inside = {
      MONGODB_URL: "mongodb://u:p@mongo-0:27017,mongo-1.db.svc:27017/lucid",
      REDIS_URL: "redis://redis",
    };
    expect(tor("http://gateway", inside)).toEqual([]);
    const outside = {
      MONGODB_URL: "mongodb://u:hunter2@mongo-0,db.example.com/x",
      REDIS_URL: "redis://:hunter2@1.2.3.4",
    };
    const problems = tor("http://gateway", { ...outside, TOR_PROXY_URL: "socks5h://tor:9050" });
    expect(problems.map((problem) => problem.split(":")[0])).toEqual(["MONGODB_URL", "REDIS_URL"]);
    expect(problems.join()).not.toContain("hunter2");
  });
});

describe("the environment", () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "lucid-settings-"));
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));
  const dotEnv = (text: string) => writeFileSync(join(directory, ".env"), text);
  const file = (text: string) => {
    const path = join(directory, "lucid.conf");
    writeFileSync(path, text);
    return path;
  };

  test("is read in any case", () => {
    expect(readEnvironment({ port: "1", Log_Level: "DEBUG" }, directory)).toEqual({ PORT: "1", LOG_LEVEL: "DEBUG" });
  });

  test("wins over .env, which wins over CONFIG_FILE", () => {
    dotEnv("PORT=2\nLOG_LEVEL=DEBUG\n# comment\nservice_name='quoted name'\n");
    const CONFIG_FILE = file("PORT=3\nLOG_LEVEL=ERROR\nVERSION=9\n");
    expect(readEnvironment({ PORT: "1", CONFIG_FILE }, directory)).toMatchObject({
      PORT: "1",
      LOG_LEVEL: "DEBUG",
      SERVICE_NAME: "quoted name",
      VERSION: "9",
    });
  });

  test("may name CONFIG_FILE in .env; one that is not there is a problem", () => {
    dotEnv(`CONFIG_FILE=${file("PORT=7")}`);
    expect(readEnvironment({}, directory).PORT).toBe("7");
    expect(() => readEnvironment({ CONFIG_FILE: "/nowhere" }, directory)).toThrow("/nowhere");
  });

  test("an empty value counts as absent", () => {
    dotEnv("PORT=5\nMONGODB_URL=\n");
    expect(readEnvironment({ PORT: "" }, directory)).toEqual({ PORT: "5" });
  });

  test("works without any file", () => {
    expect(parseSettings(readEnvironment({}, directory)).port).toBe(8083);
  });

  test("gives the agent its tokens", () => {
    const tokens = readClientTokens({ LUCID_TOKEN: "a", LUCID_ENROLLMENT_TOKEN: "b" });
    expect(tokens).toEqual({ token: "a", enrollmentToken: "b" });
  });
});

describe("a key ring", () => {
  test.each([
    ["bare", [{ kid: "1", secret: "bare" }]],
    [
      "a:x,b:y",
      [
        { kid: "a", secret: "x" },
        { kid: "b", secret: "y" },
      ],
    ],
    [
      " a:x , b:y:z ",
      [
        { kid: "a", secret: "x" },
        { kid: "b", secret: "y:z" },
      ],
    ],
  ])("%s", (ring, keys) => {
    expect(parseKeyRing(ring)).toEqual(keys);
  });
});
