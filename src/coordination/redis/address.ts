// Reads Redis' address and credentials from a URL.
import { readFileSync } from "node:fs";
import type { RedisOptions } from "ioredis";

export type RedisAddress = Required<Pick<RedisOptions, "host" | "port" | "db">> &
  Pick<RedisOptions, "username" | "password" | "tls">;

/**
 * `redis://user:password@host:port/database`, or `rediss://` for TLS, which takes `?tlsCAFile=` as MongoDB's URLs do: a
 * PEM file of authorities to trust instead of the system's, read once. The server's name is always checked.
 */
export function parseRedisUrl(text: string): RedisAddress {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^rediss?:$/.test(url.protocol)) throw new Error("The URL of Redis begins with redis:// or rediss://");
  const secure = url.protocol === "rediss:";
  const unknown = [...url.searchParams.keys()].filter((name) => !(secure && name === "tlsCAFile"));
  if (unknown.length > 0) throw new Error(`The URL of Redis has parameters unknown here: ${unknown.join(", ")}`);
  const database = /^\/?(\d{0,4})$/.exec(url.pathname)?.[1];
  if (database === undefined) throw new Error("The URL of Redis ends with a database number, if with anything");
  const caFile = url.searchParams.get("tlsCAFile");
  return {
    host: url.hostname.replace(/^\[|\]$/g, "") || "localhost",
    port: Number(url.port || 6379),
    db: Number(database),
    ...(url.username === "" ? {} : { username: decodeURIComponent(url.username) }),
    ...(url.password === "" ? {} : { password: decodeURIComponent(url.password) }),
    ...(secure ? { tls: caFile === null ? {} : { ca: readFileSync(caFile) } } : {}),
  };
}
