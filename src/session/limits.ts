/**
 * @module
 * How much one session takes, in its object's memory: exact, for every call of
 * a session comes through here, and without a store to ask.
 *
 * Trade-off: an object that was evicted begins with a full bucket. It is evicted
 * only when it has been left alone for a while.
 */
import type { JsonValue } from "../mcp/ijson.ts";
import { classifyMessage } from "../mcp/jsonrpc.ts";
import { type Limits, MAX_CONCURRENT_CALLS } from "../policy/limits.ts";
import { type Bucket, fullBucket, type Rate, take } from "../policy/token-bucket.ts";

/** When a session that is busy with other calls may be asked again: some of them will be over. */
const BUSY_RETRY_MS = 1_000;

export type Limited = { readonly kind: "limited"; readonly retryAfterMs: number };

export class SessionLimits {
  /** Of the deployment; null where it sets none. */
  readonly #rate: Rate | null;
  #bucket: Bucket | null = null;

  constructor(rate: Rate | null) {
    this.#rate = rate;
  }

  /** Lets requests in, or says when to come back. `inFlight` calls of the session are under way. */
  admit(
    limits: Limits | undefined,
    requests: number,
    inFlight: number,
    now: number,
  ): Limited | null {
    if (requests === 0) return null;
    if (inFlight >= (limits?.concurrent_calls ?? MAX_CONCURRENT_CALLS)) {
      return { kind: "limited", retryAfterMs: BUSY_RETRY_MS };
    }
    const rate = rateOf(this.#rate, limits);
    if (rate === null) return null;
    const taken = take(this.#bucket ?? fullBucket(rate, now), rate, requests, now);
    if (!taken.ok) return { kind: "limited", retryAfterMs: taken.retryAfterMs };
    this.#bucket = taken.bucket;
    return null;
  }
}

/** The deployment's rate, as far as the key says nothing else. */
function rateOf(rate: Rate | null, limits: Limits | undefined): Rate | null {
  if (limits?.rate_per_minute === undefined && limits?.burst === undefined) return rate;
  const perMinute = limits.rate_per_minute ?? rate?.perMinute;
  return perMinute === undefined
    ? null
    : { perMinute, burst: limits.burst ?? rate?.burst ?? perMinute };
}

/** Requests in one body: notifications and answers do not count, nor does what is no message. */
export function requestsIn(payload: JsonValue): number {
  const messages = Array.isArray(payload) ? payload : [payload];
  return messages.filter((message) => classifyMessage(message).kind === "request").length;
}
