/**
 * @module
 * How much one caller may do: what a key may say otherwise than the deployment.
 */
import * as z from "zod";

/** A limit that a key sets must still be one. */
const most = (limit: number) => z.int().min(1).max(limit).exactOptional();

/** Requests a minute past which a limit is none: what one session's object could ever take. */
export const MAX_RATE_PER_MINUTE = 1_000_000;
/** Sessions of one principal that a deployment could want to be live. */
export const MAX_SESSIONS = 1_000_000;
/** Streams with a socket of one session: an object's memory bounds them. */
export const MAX_STREAMS = 256;
/** Calls of one session under way at once, also where its key says nothing: each holds its arguments and its answer in 128 MB. */
export const MAX_CONCURRENT_CALLS = 256;

/** The `limits` of a key. What it leaves out is the deployment's. */
export const limitsSchema = z.strictObject({
  /** Of one session: requests a minute, and at once. */
  rate_per_minute: most(MAX_RATE_PER_MINUTE),
  burst: most(MAX_RATE_PER_MINUTE),
  /** Of the principal, over all its sessions. */
  principal_per_minute: most(MAX_RATE_PER_MINUTE),
  concurrent_calls: most(MAX_CONCURRENT_CALLS),
  streams: most(MAX_STREAMS),
  sessions: most(MAX_SESSIONS),
});

export type Limits = z.infer<typeof limitsSchema>;
