// Times that callers send.
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { malformed } from "../failure.js";

// From 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z, as google.protobuf.Timestamp says; the binary form can carry any
// value.
const secondsMin = -62_135_596_800n;
const secondsMax = 253_402_300_799n;

/**
 * The time in milliseconds; anything finer is cut off. @throws Failure 4001 for a time that Timestamp does not allow
 */
export function dateOf(field: string, timestamp: Timestamp): Date {
  const { seconds, nanos } = timestamp;
  if (seconds < secondsMin || seconds > secondsMax || nanos < 0 || nanos > 999_999_999) {
    throw malformed({ field, description: "must be a time in the years 0001 to 9999, its nanos 0 to 999999999" });
  }
  return timestampDate(timestamp);
}
