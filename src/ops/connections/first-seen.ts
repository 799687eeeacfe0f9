/**
 * @module
 * Whether a principal is new to this isolate in this hour: a client of the 2026
 * era opens no connection that one could see, so its first request of an hour
 * counts as one.
 */

const HOUR_MS = 3_600_000;
/** Principals that are remembered; more than that are all new again. */
const MAX_PRINCIPALS = 10_000;

let hour = -1;
let seen = new Set<string>();

/** True once an hour for each principal. */
export function isFirstThisHour(principal: string, now: number): boolean {
  const current = Math.floor(now / HOUR_MS);
  if (current !== hour || seen.size >= MAX_PRINCIPALS) {
    hour = current;
    seen = new Set();
  }
  if (seen.has(principal)) return false;
  seen.add(principal);
  return true;
}
