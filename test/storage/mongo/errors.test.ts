// Which errors of a MongoDB server mean that a caller may try again, by the server's own list of codes.
import { MongoBulkWriteError, MongoServerError, MongoWriteConcernError } from "mongodb";
import { describe, expect, it } from "vitest";
import { StoreUnavailableError } from "../../../src/storage/collection.js";
import { isUnavailable, translateError, translateUpdateError } from "../../../src/storage/mongo/errors.js";

const context = { hosts: "db.example:27017" };
const serverError = (code: number) => new MongoServerError({ message: `error ${code}`, code });

/** Codes from src/mongo/base/error_codes.yml, by its categories. The last group has no category there. */
const temporary: Readonly<Record<string, readonly number[]>> = {
  NotPrimaryError: [189, 10107, 11602, 13435, 13436],
  ShutdownError: [91, 333, 11600],
  NetworkError: [6, 7, 89, 317, 384, 9001],
  NetworkTimeoutError: [89, 202],
  Interruption: [24, 50, 237, 262, 279, 281, 282, 290, 355, 453, 11600, 11601, 11602, 46841, 91331, 10045600],
  ExceededTimeLimitError: [50, 202, 262, 290, 407],
  SnapshotError: [239, 246, 250, 272],
  StaleShardVersionError: [150, 13388],
  RetriableError: [
    6, 7, 89, 91, 134, 189, 262, 317, 358, 384, 402, 406, 407, 412, 453, 462, 9001, 10107, 11600, 11602, 13435, 13436,
    50915, 91331, 10045600,
  ],
  SystemOverloadedError: [433, 449, 450, 462],
  "a wrong password, at Atlas too": [18, 8000],
  "what passes, or a hand at the server mends": [
    46, 112, 117, 249, 365, 371, 14031, 276, 285, 12586, 12587, 217, 64, 100,
  ],
};
/** Our mistakes, or the caller's: a second try gets the same error. */
const lasting = [2, 9, 13, 14, 20, 26, 27, 28, 40, 48, 59, 66, 67, 72, 73, 85, 86, 121, 10334, 11000];

describe("an error of the server", () => {
  it.each(Object.entries(temporary))("of the kind %s is its absence", (_, codes) => {
    for (const code of codes) {
      const error = serverError(code);
      expect(isUnavailable(error), String(code)).toBe(true);
      const told = translateError(error, context);
      expect(told, String(code)).toBeInstanceOf(StoreUnavailableError);
      expect((told as Error).cause).toBe(error);
      expect(translateUpdateError(error, context), String(code)).toBeInstanceOf(StoreUnavailableError);
    }
  });

  it.each(Object.entries(temporary))("of the kind %s is its absence in the middle of a batch, too", (_, codes) => {
    for (const code of codes) {
      const result = { getWriteConcernError: () => undefined } as never;
      const writeErrors = [{ index: 3, code, errmsg: "no" }] as never;
      const error = new MongoBulkWriteError({ message: "no", code, writeErrors }, result);
      expect(isUnavailable(error), String(code)).toBe(true);
    }
  });

  it("about what a majority confirms leaves the write unknown", () => {
    const error = new MongoWriteConcernError({ writeConcernError: { code: 64, errmsg: "timed out" }, ok: 1 } as never);
    expect(isUnavailable(error)).toBe(true);
  });

  it.each(lasting)("that would come again is none (%i)", (code) => {
    expect(isUnavailable(serverError(code))).toBe(false);
  });
});
