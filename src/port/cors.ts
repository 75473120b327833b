// Lets pages of stated origins call the service from a browser, by Connect or gRPC-Web.
import { cors as connectCors } from "@connectrpc/connect";
import type { WireRequest, WireResponse } from "./exchange.js";

/** True when the request was a preflight and is answered. */
export type Cors = (request: WireRequest, response: WireResponse) => boolean;

const allowedHeaders = [...connectCors.allowedHeaders, "Authorization", "X-Request-Id"].join(", ");
const exposedHeaders = [...connectCors.exposedHeaders, "X-Request-Id"].join(", ");
const allowedMethods = connectCors.allowedMethods.join(", ");
const preflightSeconds = 7_200;

/**
 * With no origin stated nothing is answered and no header is sent. Credentials in the browser's sense (cookies) are
 * never allowed: tokens travel in a header that the page sets itself, so that `*` exposes nothing a page has no token for.
 */
export function createCors(origins: readonly string[]): Cors {
  const allowed = new Set(origins);
  if (allowed.size === 0) return () => false;
  const any = allowed.has("*");
  return (request, response) => {
    const { origin } = request.headers;
    // The answer differs by origin, so no cache may give one origin's answer to another.
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
