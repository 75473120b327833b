// Removes from logs: credentials, secrets, and payout addresses.

const secretKey =
  /(^|_)(authorization|cookie|token|tokens|secret|secrets|password|passphrase|credentials?|private_key|encryption_key|secret_key|api_key|jwt|signature|seed|mnemonic)$/;
const addressKey = /(^|_)(wallet|wallet_address|payout_address)$/;
// Each pattern takes time linear in the text, whatever it contains: a scheme is short, and a token is searched only at
// the beginning of a word.
const urlCredentials = /\b([a-z][a-z0-9+.-]{0,30}:\/\/)[^/\s@]*@/gi;
const bearer = /\b(bearer|basic)\s+[a-z0-9._~+/=-]+/gi;
const webToken = /(?<![\w-])eyJ[\w-]+\.[\w-]+\.[\w-]*/g;
const tronAddress = /\b(T[1-9A-HJ-NP-Za-km-z]{3})[1-9A-HJ-NP-Za-km-z]{26}([1-9A-HJ-NP-Za-km-z]{4})\b/g;
const hidden = "[redacted]";
/** Longer text is cut, so that a log line and its cost are bounded. */
const textCharsMax = 16_384;
/** Below this depth a value is named instead of shown, so that log lines and cyclic objects are bounded. */
const depthMax = 6;

/** The text without credentials. Payout addresses keep their first and last four characters. */
export function redactText(text: string): string {
  const whole = text.length <= textCharsMax;
  return (whole ? text : `${text.slice(0, textCharsMax)}… (${text.length - textCharsMax} characters more)`)
    .replace(urlCredentials, `$1${hidden}@`)
    .replace(bearer, `$1 ${hidden}`)
    .replace(webToken, hidden)
    .replace(tronAddress, "$1…$2");
}

/** A copy that is safe to log: errors become text with their causes, bigints decimal text. */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === "string") return redactText(value);
  if (typeof value === "bigint") return value.toString();
  if (value instanceof Error) return errorText(value);
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Uint8Array) return `[${value.byteLength} bytes]`;
  if (typeof value !== "object" || value === null) return value;
  if (depth >= depthMax) return "[deeper]";
  if (Array.isArray(value)) return value.map((item) => redact(item, depth + 1));
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, redactField(key, item, depth)]));
}

function redactField(key: string, value: unknown, depth: number): unknown {
  const name = key
    .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
    .replaceAll("-", "_")
    .toLowerCase();
  if (secretKey.test(name)) return hidden;
  if (addressKey.test(name)) return typeof value === "string" ? mask(value) : hidden;
  return redact(value, depth + 1);
}

function mask(address: string): string {
  return address.length < 12 ? hidden : `${address.slice(0, 4)}…${address.slice(-4)}`;
}

/** Stack and causes as one text. */
function errorText(error: Error): string {
  const parts: string[] = [];
  let current: unknown = error;
  for (let depth = 0; depth < depthMax && current !== undefined; depth++) {
    parts.push(current instanceof Error ? (current.stack ?? `${current.name}: ${current.message}`) : String(current));
    current = current instanceof Error ? current.cause : undefined;
  }
  return redactText(parts.join("\ncaused by: "));
}
