/**
 * @module
 * How much one principal may ask over all its sessions: approximate. Each
 * isolate has a bucket of its own; across isolates the platform's counter is
 * told of every 64th request, beside the answer and never before it, so that
 * the hot path waits for nobody.
 */
import type { Config } from "../config.ts";
import { logEvent } from "../ops/log.ts";
import { type Bucket, fullBucket, take } from "../policy/token-bucket.ts";
import type { Principal } from "./principal.ts";
import { HttpRefusal } from "./refusal.ts";

/** The counter's limit in wrangler.toml is that of the variable, divided by this. */
const SAMPLE = 64;
/** How long a principal is held off once the counter is full: the rest of its minute is not known. */
const HOLD_MS = 10_000;
/** Principals that an isolate keeps in mind. */
const MAX_PRINCIPALS = 10_000;

type Seen = { bucket: Bucket | null; requests: number; heldUntil: number };

const seen = new Map<string, Seen>();

/** Counts a request. Throws `HttpRefusal` 429. */
export function admitPrincipal(
  principal: Principal,
  {
    config,
    env,
    now,
    waitUntil,
  }: {
    readonly config: Config;
    readonly env: Env;
    readonly now: number;
    readonly waitUntil: (work: Promise<unknown>) => void;
  },
): void {
  const own = principal.limits?.principal_per_minute;
  const perMinute = own ?? config.principalPerMinute;
  if (perMinute === null) return;
  const known = seenOf(`${principal.tenant}\n${principal.id}`);
  if (known.heldUntil > now) throw tooMuch(known.heldUntil - now);
  // A minute's worth at once: what a window of a minute would let through.
  const rate = { perMinute, burst: perMinute };
  const taken = take(known.bucket ?? fullBucket(rate, now), rate, 1, now);
  if (!taken.ok) throw tooMuch(taken.retryAfterMs);
  known.bucket = taken.bucket;
  known.requests += 1;
  // The counter has one limit, the deployment's: a key with a limit of its own is held to that here.
  if (own === undefined && known.requests % SAMPLE === 0) {
    waitUntil(count(env.PRINCIPAL_LIMITER, principal, known));
  }
}

async function count(limiter: RateLimit, principal: Principal, known: Seen): Promise<void> {
  try {
    const { success } = await limiter.limit({ key: `${principal.tenant}\n${principal.id}` });
    if (!success) known.heldUntil = Date.now() + HOLD_MS;
  } catch (error) {
    logEvent("warn", "limiter_failed", { error: String(error) });
  }
}

function seenOf(key: string): Seen {
  const known = seen.get(key);
  if (known !== undefined) return known;
  const oldest = seen.keys().next();
  if (seen.size >= MAX_PRINCIPALS && !oldest.done) seen.delete(oldest.value);
  const made: Seen = { bucket: null, requests: 0, heldUntil: Number.NEGATIVE_INFINITY };
  seen.set(key, made);
  return made;
}

function tooMuch(retryAfterMs: number): HttpRefusal {
  return new HttpRefusal(
    429,
    "RATE_LIMITED",
    "You have asked as much as you may for now. Wait as long as Retry-After says.",
    { headers: { "retry-after": String(Math.ceil(retryAfterMs / 1000)) } },
  );
}
