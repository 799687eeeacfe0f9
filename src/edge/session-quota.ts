/**
 * @module
 * How many live sessions a principal may have. The archive's index of sessions
 * is counted when one is opened, and what this isolate opened or ended since
 * the last flush is added: exact in one isolate, and late by a flush in others.
 */
import { openArchive } from "../archive/open.ts";
import type { Config } from "../config.ts";
import { logEvent } from "../ops/log.ts";
import { within } from "../ops/within.ts";
import type { Principal } from "./principal.ts";
import { HttpRefusal } from "./refusal.ts";

/** Longer than the index takes to hear of a session, in ms: the longest flush interval there is in practice. */
const RECENT_MS = 60_000;
/** Principals that an isolate keeps in mind. */
const MAX_PRINCIPALS = 10_000;
/** Ids that are kept in mind of one: bound parameters are one JSON text, and this bounds it. */
const MAX_RECENT = 2_000;
/** What counting may take, in ms: an archive that does not answer must not hold up new sessions. */
const COUNT_TIMEOUT_MS = 2_000;
const RETRY_SECONDS = "60";

type Event = { readonly at: number; readonly live: boolean };

/** What happened lately here, by principal and session. */
const recent = new Map<string, Map<string, Event>>();

export function noteSessionOpened(principal: Principal, sessionId: string, now: number): void {
  note(principal, sessionId, { at: now, live: true });
}

export function noteSessionEnded(principal: Principal, sessionId: string, now: number): void {
  note(principal, sessionId, { at: now, live: false });
}

/** Refuses another session to a principal that has as many as it may: 429 `QUOTA_EXCEEDED`. */
export async function requireRoomForSession(
  env: Env,
  config: Config,
  principal: Principal,
  now: number,
): Promise<void> {
  const most = principal.limits?.sessions ?? config.maxSessionsPerPrincipal;
  const here = lately(principal, now);
  const opened = [...here.values()].filter(({ live }) => live).length;
  if (opened < most && (await countElsewhere(env, principal, [...here.keys()])) + opened < most) {
    return;
  }
  throw new HttpRefusal(
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

function note(principal: Principal, sessionId: string, event: Event): void {
  const key = keyOf(principal);
  const events = lately(principal, event.at);
  // Last again, so that what was used longest ago is forgotten first.
  recent.delete(key);
  const oldest = recent.keys().next();
  if (recent.size >= MAX_PRINCIPALS && !oldest.done) recent.delete(oldest.value);
  recent.set(key, events);
  const first = events.keys().next();
  if (events.size >= MAX_RECENT && !first.done) events.delete(first.value);
  events.delete(sessionId);
  events.set(sessionId, event);
}

/** In the order of their time, so that the outdated ones come first. */
function lately(principal: Principal, now: number): Map<string, Event> {
  const events = recent.get(keyOf(principal)) ?? new Map<string, Event>();
  for (const [sessionId, { at }] of events) {
    if (now - at < RECENT_MS) break;
    events.delete(sessionId);
  }
  return events;
}

function keyOf({ tenant, id }: Principal): string {
  return `${tenant}\n${id}`;
}
