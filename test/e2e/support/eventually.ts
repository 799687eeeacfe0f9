/**
 * @module
 * Waiting for what the contract says happens later, and for nothing else.
 */
import { setTimeout as sleep } from "node:timers/promises";

const POLL_MS = 100;
/** Generous: it only bounds how long a failure takes to show. */
const DEADLINE_MS = 60_000;

/** Asks until the answer is not null; throws when the deadline has passed. */
export async function eventually<T>(
  what: string,
  ask: () => T | null | Promise<T | null>,
  deadlineMs = DEADLINE_MS,
  pollMs = POLL_MS,
): Promise<T> {
  const deadline = Date.now() + deadlineMs;
  for (;;) {
    const answer = await ask();
    if (answer !== null) return answer;
    if (Date.now() > deadline) throw new Error(`It never came to be: ${what}`);
    await sleep(pollMs);
  }
}
