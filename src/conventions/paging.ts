// Pages of lists: by number for people, by token for programs. A token is a keyset position under a MAC of ours, bound
// to the filters and the order it came from. So it is stable under inserts and means the same on every replica.
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { PaginationSchema } from "../../gen/lucid/node/v1/common_pb.js";
import { hmac, sameBytes } from "../crypto.js";
import { malformed } from "../failure.js";
import type { Cursor } from "../storage/collection.js";

export interface PageRequest {
  readonly limit: number;
  readonly position:
    | { readonly case: "page"; readonly value: number }
    | { readonly case: "pageToken"; readonly value: string }
    | { readonly case: undefined; readonly value?: undefined };
}

export interface Window {
  readonly limit: number;
  readonly skip: number;
  readonly after?: Cursor;
  /** Undefined when the page was asked for by token. */
  readonly page: number | undefined;
}

export type Paging = ReturnType<typeof createPaging>;

const limitDefault = 20;
const depthMax = 10_000;
const macBytes = 16;

/** `key` must be the same on every replica. */
export function createPaging(key: Uint8Array) {
  const macOf = (body: Buffer, binding: string) =>
    hmac(key, Buffer.concat([body, Buffer.from(binding)])).subarray(0, macBytes);

  const unseal = (token: string, binding: string): Cursor | undefined => {
    const bytes = Buffer.from(token, "base64url");
    const body = bytes.subarray(macBytes);
    const genuine = bytes.length > macBytes && sameBytes(macOf(body, binding), bytes.subarray(0, macBytes));
    return genuine ? (JSON.parse(body.toString("utf8")) as Cursor) : undefined;
  };

  const read = (token: string, binding: string): Cursor => {
    const cursor = unseal(token, binding);
    if (cursor !== undefined) return cursor;
    throw malformed({
      field: "page_token",
      description: "not a token of this list with these filters and this order",
    });
  };

  const seal = (cursor: Cursor, binding: string): string => {
    const body = Buffer.from(JSON.stringify(cursor));
    return Buffer.concat([macOf(body, binding), body]).toString("base64url");
  };

  return {
    /** Makes a position into a token that means the same on every replica, bound to its list. */
    seal,
    /** The position of a token; undefined when this service did not make it for that binding. */
    unseal,

    /** What to read. `binding` names the list, its filters and its order. @throws Failure 4001 */
    window: (request: PageRequest, binding: string): Window => {
      const limit = request.limit === 0 ? limitDefault : request.limit;
      if (request.position.case === "pageToken" && request.position.value !== "") {
        return { limit, skip: 0, after: read(request.position.value, binding), page: undefined };
      }
      const page = request.position.case === "page" ? request.position.value : 1;
      if (page * limit > depthMax) {
        throw malformed({
          field: "page",
          description: `a page must end within the first ${depthMax} items; use page_token`,
        });
      }
      return { limit, skip: (page - 1) * limit, page };
    },

    /** The answer's pagination. It counts only when asked by page number; a count may give up (undefined). */
    pagination: async (
      window: Window,
      binding: string,
      next: Cursor | undefined,
      count: () => Promise<number | undefined>,
    ): Promise<MessageInitShape<typeof PaginationSchema>> => {
      const nextPageToken = next === undefined ? "" : seal(next, binding);
      if (window.page === undefined) return { limit: window.limit, nextPageToken };
      const total = await count();
      const totals = total === undefined ? {} : { total, pages: Math.ceil(total / window.limit) };
      return { limit: window.limit, nextPageToken, page: window.page, ...totals };
    },
  };
}
