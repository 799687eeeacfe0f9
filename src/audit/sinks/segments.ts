/**
 * @module
 * Segments in R2: runs of sealed records under a name that says which, written
 * once. A retry writes the same bytes, because the run is fixed before the
 * first PUT; an object that is already there must be equal.
 */

import { createHash } from "node:crypto";
import type { StoredRecord } from "../record.ts";
import { segmentLine } from "../seal.ts";

const SEQ_DIGITS = 10;

/** `audit/<tenant>/<yyyy>/<mm>/<dd>/<session_id>/<first>-<last>.ndjson`; the date is the first record's. */
export function segmentKey(
  tenant: string,
  sessionId: string,
  firstTimestamp: string,
  first: number,
  last: number,
): string {
  const day = firstTimestamp.slice(0, 10).replaceAll("-", "/");
  const seq = (n: number) => String(n).padStart(SEQ_DIGITS, "0");
  return `audit/${tenant}/${day}/${sessionId}/${seq(first)}-${seq(last)}.ndjson`;
}

/** The bytes of a segment: one sealed line a record, each ended by a line feed. */
export function segmentText(sealKey: Uint8Array, records: readonly StoredRecord[]): string {
  return records.map((record) => `${segmentLine(sealKey, record)}\n`).join("");
}

/**
 * Puts a segment where nothing is yet. `conflict`: something else is there
 * already, an alarm. Throws when R2 does not answer; repeating is safe.
 */
export async function putSegment(
  bucket: R2Bucket,
  key: string,
  text: string,
): Promise<"stored" | "conflict"> {
  const bytes = new TextEncoder().encode(text);
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  const put = await bucket.put(key, bytes, {
    sha256,
    onlyIf: { etagDoesNotMatch: "*" },
    httpMetadata: { contentType: "application/x-ndjson" },
  });
  if (put !== null) return "stored";
  const there = await bucket.get(key);
  if (there === null) throw new Error(`the segment ${key} was refused and is not there`);
  return (await there.text()) === text ? "stored" : "conflict";
}
