/**
 * @module
 * How many live sessions a principal may have. The archive's index of sessions
 * is counted when one is opened, and what this isolate opened, is opening or
 * ended since the last flush is added: exact in one isolate, and late by a flush
 * in others.
 */
import { openArchive } from "../archive/open.ts";
import type { Config } from "../config.ts";
import { logEvent } from "../ops/log.ts";
import { within } from "../ops/within.ts";
import type { Principal } from "./principal.ts";
import { RecentSessions } from "./recent-sessions.ts";
import { HttpRefusal } from "./refusal.ts";

/** What counting may take, in ms: an archive that does not answer must not hold up new sessions. */
const COUNT_TIMEOUT_MS = 2_000;
const RETRY_SECONDS = "60";

const recent = new RecentSessions();

export function noteSessionEnded(principal: Principal, sessionId: string, now: number): void {
  recent.note(keyOf(principal), sessionId, false, now);
}

/**
 * Opens a session, whose place is taken before anything is awaited and given
 * back if `work` does not call `opened`. Throws `HttpRefusal` 429
 * `QUOTA_EXCEEDED` for a principal that has as many as it may.
 */
export async function withinQuota<T>(
  { env, config, principal }: { env: Env; config: Config; principal: Principal },
  work: (opened: (sessionId: string) => void) => Promise<T>,
): Promise<T> {
  const most = principal.limits?.sessions ?? config.maxSessionsPerPrincipal;
  const key = keyOf(principal);
  const here = recent.of(key, Date.now());
  if (here.live >= most) throw tooManySessions(most);
  // A request that the platform ends midway never gives it back: then it is outdated in a minute.
  const place = crypto.randomUUID();
  recent.note(key, place, true, Date.now());
  try {
    if ((await countElsewhere(env, principal, here.ids)) + here.live >= most) {
      throw tooManySessions(most);
    }
    return await work((sessionId) => {
      recent.forget(key, place);
      recent.note(key, sessionId, true, Date.now());
    });
  } finally {
    recent.forget(key, place);
  }
}

function tooManySessions(most: number): HttpRefusal {
  return new HttpRefusal(
    429,
    "QUOTA_EXCEEDED",
    `You have ${most} live sessions, which is as many as you may. End one of them first.`,
    { headers: { "retry-after": RETRY_SECONDS } },
  );
}

/** Live sessions of the index, without those that this isolate knows better. */
async function countElsewhere(
  env: Env,
  principal: Principal,
  known: readonly string[],
): Promise<number> {
  try {
    return await within(COUNT_TIMEOUT_MS, openArchive(env).countLive(principal, known));
  } catch (error) {
    // A quota is no gate: while the archive is away, sessions are opened all the same.
    logEvent("warn", "sessions_uncounted", { error: String(error) });
    return 0;
  }
}

function keyOf({ tenant, id }: Principal): string {
  return `${tenant}\n${id}`;
}
