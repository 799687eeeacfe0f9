/**
 * @module
 * A token bucket in whole numbers: pure, exact, and without a timer. A request
 * costs a minute's worth of milliseconds, and each millisecond that passes gives
 * back as many units as requests are allowed a minute, so that no rounding ever
 * refuses a client that keeps to its rate.
 */

/** Units of one request. */
const COST = 60_000;

export type Rate = {
  /** Requests a minute in the long run, at least 1. */
  readonly perMinute: number;
  /** Requests at once, at least 1. */
  readonly burst: number;
};

/** Immutable: a refused request changes nothing. */
export type Bucket = {
  /** Units in it, at `at`; below 0 after a batch that was larger than a full bucket. */
  readonly level: number;
  /** Unix ms. */
  readonly at: number;
};

export type Taken =
  | { readonly ok: true; readonly bucket: Bucket }
  | {
      readonly ok: false;
      /** When that many requests would be let through, in ms from now. */
      readonly retryAfterMs: number;
    };

/** A bucket that nobody has taken from. */
export function fullBucket(rate: Rate, now: number): Bucket {
  return { level: rate.burst * COST, at: now };
}

/**
 * Takes `requests` at once, all or none. More than the bucket can ever hold are
 * let through once it is full, for they would otherwise wait for ever; what they
 * cost beyond it is owed, so that no batch exceeds the rate in the long run.
 */
export function take(bucket: Bucket, rate: Rate, requests: number, now: number): Taken {
  const capacity = rate.burst * COST;
  // A clock of whole milliseconds makes one pause longer and the next one shorter than they are:
  // what a millisecond gives may be carried over, though never as much as a request.
  const slack = Math.min(rate.perMinute, COST - 1);
  // A clock that was set back gives nothing, and takes nothing away.
  const at = Math.max(now, bucket.at);
  const level = Math.min(capacity + slack, bucket.level + (at - bucket.at) * rate.perMinute);
  const cost = requests * COST;
  const needed = Math.min(cost, capacity);
  if (level >= needed) return { ok: true, bucket: { level: level - cost, at } };
  return { ok: false, retryAfterMs: Math.ceil((needed - level) / rate.perMinute) + (at - now) };
}
