/**
 * @module
 * How often an address may come with a credential that is not known here: that
 * costs a look into the keys, or at a signature. Approximate, by the platform's
 * counters; stricter once it failed. Callers whose credential is in the cache,
 * a stale answer too, never come here.
 *
 * Trade-off: an address that failed too often is refused for a minute with any
 * credential that is new to this isolate, a good one too. This machine is
 * exempt: where no platform says who calls, all callers have one address.
 *
 * The same counter bounds the few routes that are everybody's and cost a question.
 */
import { logEvent } from "../ops/log.ts";
import { holderOf, isLoopback } from "../policy/cidr.ts";
import { clientAddress } from "./address.ts";
import { HttpRefusal } from "./refusal.ts";

/** The period of the counters in wrangler.toml, in ms. */
const PERIOD_MS = 60_000;
/** Addresses that an isolate holds off. */
const MAX_BLOCKED = 10_000;

/** Until when an address is held off, Unix ms. */
const blocked = new Map<string, number>();

/** Whether an address is held off: asked before every credential, so that it costs nothing in peace. */
export function isHeldOff(address: string, now: number): boolean {
  if (blocked.size === 0) return false;
  const until = blocked.get(holderOf(address));
  return until !== undefined && until > now;
}

/** Counts a look-up of an unknown credential. Throws `HttpRefusal` 429. */
export async function admitUnknown(env: Env, address: string, now: number): Promise<void> {
  if (isLoopback(address)) return;
  if (isHeldOff(address, now) || !(await counted(env.ADDRESS_LIMITER, address))) {
    throw heldOff();
  }
}

/**
 * Counts a request of a route that is everybody's, and that the archive or an
 * object has to answer; apart from credentials. Throws `HttpRefusal` 429.
 */
export async function admitAnybody(env: Env, { headers }: Request): Promise<void> {
  const address = clientAddress(headers);
  if (isLoopback(address) || (await counted(env.ADDRESS_LIMITER, address, "open "))) return;
  throw new HttpRefusal(
    429,
    "RATE_LIMITED",
    "This address asks too often. Wait as long as Retry-After says.",
    { headers: { "retry-after": String(PERIOD_MS / 1000) } },
  );
}

/** Counts a credential that was looked up and not accepted; after too many the address is held off. */
export async function noteFailure(env: Env, address: string, now: number): Promise<void> {
  if (isLoopback(address) || isHeldOff(address, now)) return;
  if (await counted(env.FAILURE_LIMITER, address)) return;
  const oldest = blocked.keys().next();
  if (blocked.size >= MAX_BLOCKED && !oldest.done) blocked.delete(oldest.value);
  blocked.set(holderOf(address), now + PERIOD_MS);
}

export function heldOff(): HttpRefusal {
  return new HttpRefusal(
    429,
    "RATE_LIMITED",
    "Too many credentials came from this address that are not valid. Wait as long as Retry-After says.",
    { headers: { "retry-after": String(PERIOD_MS / 1000) } },
  );
}

async function counted(limiter: RateLimit, address: string, kind = ""): Promise<boolean> {
  try {
    return (await limiter.limit({ key: kind + holderOf(address) })).success;
  } catch (error) {
    // A counter that does not answer is no reason to keep everybody out.
    logEvent("warn", "limiter_failed", { error: String(error) });
    return true;
  }
}
