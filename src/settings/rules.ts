// Rules across settings: defaults that depend on other settings, production, Tor, and settings that belong together.
// Pure.
import { sharesSecret } from "../access/keyring.js";
import { mongodbHosts, staysInside } from "./hosts.js";
import { type Given, type Settings, settingRows } from "./settings.js";

/** The machine's values for defaults. Read only if the variable is not set. */
export interface Surroundings {
  readonly hostname: () => string;
  readonly packageVersion: () => string;
}

/** Completes the given values to Settings. */
export function settle(given: Given, { hostname, packageVersion }: Surroundings): Settings {
  // In any case of letters: "Production" must not switch off the rules of production.
  const environment = given.environment.toLowerCase();
  const production = environment === "production";
  // The port is reachable from outside only where the service is deployed on purpose.
  const host = given.host ?? (production ? "::" : "127.0.0.1");
  const { heartbeat } = given;
  return {
    ...given,
    environment,
    host,
    metricsHost: given.metricsHost ?? host,
    version: given.version ?? packageVersion(),
    replicaName: given.replicaName ?? hostname(),
    heartbeat: { ...heartbeat, graceMs: heartbeat.graceMs ?? Math.max(heartbeat.intervalMs, 10_000) },
    payouts: { ...given.payouts, gateway: gatewaysOf(given.payouts.gateway, production) },
    rateLimits: rateLimitsOf(given.rateLimits),
    reflectionEnabled: given.reflectionEnabled ?? !production,
    tls: tlsOf(given.tls),
    externalHealthUrls: Object.fromEntries(given.externalHealthUrls),
  };
}

/** The sandbox pays where no real money can be meant, so that a fresh service shows payouts. */
const gatewaysOf = (given: Given["payouts"]["gateway"], production: boolean): Settings["payouts"]["gateway"] => {
  const fallback = production ? undefined : "sandbox";
  return { USDT: given.USDT ?? fallback, LUCID: given.LUCID ?? fallback };
};

const rateLimitsOf = ({ enabled, ...perMinute }: Given["rateLimits"]): Settings["rateLimits"] =>
  enabled ? { ...perMinute, windowMs: 60_000 } : undefined;

const tlsOf = ({ certFile, keyFile, clientCaFile }: Given["tls"]): Settings["tls"] =>
  certFile === undefined || keyFile === undefined ? undefined : { certFile, keyFile, clientCaFile };

/**
 * The settings that are missing or contradict each other: a sentence each that begins with a variable's name and
 * contains no secret.
 * @param isSet whether the variable has a value, even an invalid one, so that no fault is reported twice
 */
export function conflicts(settings: Settings, isSet: (name: string) => boolean): string[] {
  return [
    ...tlsProblems(isSet),
    ...(sharesSecret(settings.jwtSecretKey, settings.jwtPrivilegedSecretKey)
      ? ["JWT_PRIVILEGED_SECRET_KEY: shares a secret with JWT_SECRET_KEY, so that it would protect nothing"]
      : []),
    ...(settings.environment === "production" ? productionProblems(settings, isSet) : []),
    ...(settings.torOnly ? torProblems(settings) : []),
  ];
}

function tlsProblems(isSet: (name: string) => boolean): string[] {
  if (isSet("TLS_CERT_FILE") !== isSet("TLS_KEY_FILE")) return ["TLS_CERT_FILE and TLS_KEY_FILE: give both or none"];
  if (!isSet("TLS_CERT_FILE") && isSet("TLS_CLIENT_CA_FILE")) {
    return ["TLS_CLIENT_CA_FILE: needs TLS_CERT_FILE and TLS_KEY_FILE"];
  }
  return [];
}

function productionProblems({ encryptionKey, payouts }: Settings, isSet: (name: string) => boolean): string[] {
  const missing = settingRows.filter(({ name, requiredInProduction }) => requiredInProduction && !isSet(name));
  const key = Buffer.from(encryptionKey ?? "", "base64");
  return [
    ...missing.map(({ name }) => `${name}: required when ENVIRONMENT=production`),
    ...Object.entries(payouts.gateway)
      .filter(([, gateway]) => gateway === "sandbox")
      .map(([currency]) => `PAYOUT_GATEWAY_${currency}: the sandbox moves no money, so production refuses it`),
    ...(key.length > 0 && new Set(key).size < 16 ? ["ENCRYPTION_KEY: is a known or weak key"] : []),
  ];
}

/** Under TOR_ONLY every outbound URL must lead to an onion or stay inside the cluster: a proxy is not used yet. */
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
