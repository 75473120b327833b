// Lets browser pages of the configured origins call the service by Connect or gRPC-Web.
import { cors as connectCors } from "@connectrpc/connect";
import type { WireRequest, WireResponse } from "./exchange.js";

/** Returns true when the request was a preflight and has been answered. */
export type Cors = (request: WireRequest, response: WireResponse) => boolean;

const allowedHeaders = [...connectCors.allowedHeaders, "Authorization", "X-Request-Id"].join(", ");
const exposedHeaders = [...connectCors.exposedHeaders, "X-Request-Id"].join(", ");
const allowedMethods = connectCors.allowedMethods.join(", ");
const preflightSeconds = 7_200;

/**
 * Without configured origins it answers nothing and sends no header. Browser credentials (cookies) are never allowed:
 * tokens travel in a header that the page sets itself, so `*` exposes nothing to a page without a token.
 */
export function createCors(origins: readonly string[]): Cors {
  const allowed = new Set(origins);
  if (allowed.size === 0) return () => false;
  const any = allowed.has("*");
  return (request, response) => {
    const { origin } = request.headers;
    // The answer depends on the origin, so a cache must not give it to another origin.
    response.setHeader("Vary", "Origin");
    if (origin === undefined) return false;
    const listed = any || allowed.has(origin);
    const preflight = request.method === "OPTIONS" && "access-control-request-method" in request.headers;
    if (listed) {
      response.setHeader("Access-Control-Allow-Origin", any ? "*" : origin);
      if (!preflight) response.setHeader("Access-Control-Expose-Headers", exposedHeaders);
    }
    if (!preflight) return false;
    if (listed) {
      response.setHeader("Access-Control-Allow-Methods", allowedMethods);
      response.setHeader("Access-Control-Allow-Headers", allowedHeaders);
      response.setHeader("Access-Control-Max-Age", String(preflightSeconds));
    }
    response.statusCode = 204;
    response.end();
    return true;
  };
}
