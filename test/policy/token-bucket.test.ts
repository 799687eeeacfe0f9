import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Bucket, fullBucket, type Rate, take } from "../../src/policy/token-bucket.ts";

const START = Date.UTC(2100, 0, 1);
const MINUTE = 60_000;

const rates = fc.record({
  perMinute: fc.integer({ min: 1, max: 1_000_000 }),
  burst: fc.integer({ min: 1, max: 1_000_000 }),
});

/** Takes at each time, and says which were let through. */
function run(rate: Rate, times: readonly number[]): boolean[] {
  let bucket: Bucket = fullBucket(rate, START);
  return times.map((at) => {
    const taken = take(bucket, rate, 1, at);
    if (taken.ok) bucket = taken.bucket;
    return taken.ok;
  });
}

describe("a token bucket", () => {
  test("of 6 a minute and 20 at once lets 20 at once through, and the 21st in 10 s", () => {
    const rate = { perMinute: 6, burst: 20 };
    let bucket = fullBucket(rate, START);
    for (let n = 0; n < 20; n++) {
      const taken = take(bucket, rate, 1, START);
      if (!taken.ok) throw new Error(`the request ${n + 1} was refused`);
      bucket = taken.bucket;
    }
    expect(take(bucket, rate, 1, START)).toEqual({ ok: false, retryAfterMs: 10_000 });
    expect(take(bucket, rate, 1, START + 9_999).ok).toBe(false);
    expect(take(bucket, rate, 1, START + 10_000).ok).toBe(true);
  });

  test("never refuses who keeps to the rate, whatever it is, for as long as it likes", () => {
    // Up to one a millisecond: more than that is a burst, whoever sends it.
    const perMinutes = fc.integer({ min: 1, max: MINUTE });
    const bursts = fc.integer({ min: 1, max: 100 });
    const counts = fc.integer({ min: 1, max: 500 });
    fc.assert(
      fc.property(perMinutes, bursts, counts, (perMinute, burst, requests) => {
        // The times of a perfect clock, rounded up to whole milliseconds as a client must.
        const times = Array.from(
          { length: requests },
          (_, n) => START + Math.ceil((n * MINUTE) / perMinute),
        );
        expect(run({ perMinute, burst }, times)).not.toContain(false);
      }),
    );
  });

  test("lets no more through in any stretch than burst and rate allow", () => {
    fc.assert(
      fc.property(
        fc.record({
          perMinute: fc.integer({ min: 1, max: 600 }),
          burst: fc.integer({ min: 1, max: 50 }),
        }),
        fc.array(fc.integer({ min: 0, max: 2_000 }), { minLength: 1, maxLength: 200 }),
        (rate, pauses) => {
          let at = START;
          const times = pauses.map((pause) => {
            at += pause;
            return at;
          });
          const passed = times.filter((_, n) => run(rate, times)[n]);
          for (const [n, first] of passed.entries()) {
            for (const [m, last] of passed.entries()) {
              if (m < n) continue;
              const most = rate.burst + ((last - first + 1) * rate.perMinute) / MINUTE;
              expect(m - n + 1).toBeLessThanOrEqual(most + 1e-9);
            }
          }
        },
      ),
      { numRuns: 30 },
    );
  });

  test("says exactly when to come back: not a millisecond earlier", () => {
    fc.assert(
      fc.property(
        rates,
        fc.integer({ min: 1, max: 100 }),
        fc.integer({ min: 0, max: 1_000_000 }),
        (rate, requests, taken) => {
          const bucket = { level: Math.max(0, rate.burst * MINUTE - taken * 997), at: START };
          const first = take(bucket, rate, requests, START);
          if (first.ok) return;
          expect(take(bucket, rate, requests, START + first.retryAfterMs).ok).toBe(true);
          expect(take(bucket, rate, requests, START + first.retryAfterMs - 1).ok).toBe(false);
        },
      ),
    );
  });

  test("holds no more than its burst, however long it is left alone", () => {
    const rate = { perMinute: 600, burst: 3 };
    const later = START + 365 * 86_400_000;
    expect(run(rate, [later, later, later, later])).toEqual([true, true, true, false]);
  });

  test("takes all of a batch or nothing, and a batch that is larger than itself once it is full", () => {
    const rate = { perMinute: 60, burst: 5 };
    const used = take(fullBucket(rate, START), rate, 3, START);
    if (!used.ok) throw new Error("a full bucket refused");
    expect(take(used.bucket, rate, 3, START)).toEqual({ ok: false, retryAfterMs: 1_000 });
    expect(take(used.bucket, rate, 2, START).ok).toBe(true);
    expect(take(used.bucket, rate, 50, START + 2_999).ok).toBe(false);
    expect(take(used.bucket, rate, 50, START + 3_000).ok).toBe(true);
  });

  test("is owed what a batch takes beyond it, so that batches keep to the rate too", () => {
    const rate = { perMinute: 60, burst: 5 };
    const batch = take(fullBucket(rate, START), rate, 50, START);
    if (!batch.ok) throw new Error("a full bucket refused");
    // 45 are owed, and one more is asked for: a second each.
    expect(take(batch.bucket, rate, 1, START)).toEqual({ ok: false, retryAfterMs: 46_000 });
    expect(take(batch.bucket, rate, 1, START + 46_000).ok).toBe(true);
    expect(take(batch.bucket, rate, 50, START + 46_000).ok).toBe(false);
    expect(take(batch.bucket, rate, 50, START + 50_000).ok).toBe(true);
  });

  test("is not filled by a clock that is set back, and does not lose by it", () => {
    const rate = { perMinute: 60, burst: 1 };
    const used = take(fullBucket(rate, START), rate, 1, START);
    if (!used.ok) throw new Error("a full bucket refused");
    expect(take(used.bucket, rate, 1, START - MINUTE)).toEqual({
      ok: false,
      retryAfterMs: MINUTE + 1_000,
    });
    expect(take(used.bucket, rate, 1, START + 1_000).ok).toBe(true);
  });
});
