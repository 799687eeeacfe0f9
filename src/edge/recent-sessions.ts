/**
 * @module
 * What this isolate knows of principals' sessions before the archive's index
 * does: those that it opened, is opening or has ended a moment ago. Pure.
 */

/** Longer than the index takes to hear of a session, in ms: the longest flush interval there is in practice. */
export const RECENT_MS = 60_000;
/** Principals that are kept in mind. */
const MAX_PRINCIPALS = 10_000;
/** Ids that are kept in mind of one: bound parameters are one JSON text, and this bounds it. */
const MAX_RECENT = 2_000;

type Event = { readonly at: number; readonly live: boolean };
/** By id, in the order of their time, so that the outdated ones come first. */
type Events = Map<string, Event>;

export class RecentSessions {
  /** Whoever was heard of longest ago comes first. */
  readonly #principals = new Map<string, { events: Events; lastAt: number }>();

  /** Principals that are kept in mind. */
  get size(): number {
    return this.#principals.size;
  }

  /** Notes that a session of a principal is there, or is not any more. */
  note(principal: string, sessionId: string, live: boolean, now: number): void {
    const events = this.#eventsOf(principal, now);
    this.#principals.delete(principal);
    this.#forgetOutdated(now);
    const oldest = this.#principals.keys().next();
    if (this.#principals.size >= MAX_PRINCIPALS && !oldest.done) {
      this.#principals.delete(oldest.value);
    }
    this.#principals.set(principal, { events, lastAt: now });
    const first = events.keys().next();
    if (events.size >= MAX_RECENT && !first.done) events.delete(first.value);
    events.delete(sessionId);
    events.set(sessionId, { at: now, live });
  }

  /** Takes back what was noted of a session. */
  forget(principal: string, sessionId: string): void {
    this.#principals.get(principal)?.events.delete(sessionId);
  }

  /** What was heard of lately: all ids, and how many of them are live. */
  of(principal: string, now: number): { readonly ids: string[]; readonly live: number } {
    const events = this.#eventsOf(principal, now);
    return {
      ids: [...events.keys()],
      live: [...events.values()].filter(({ live }) => live).length,
    };
  }

  #eventsOf(principal: string, now: number): Events {
    const events: Events = this.#principals.get(principal)?.events ?? new Map();
    for (const [sessionId, { at }] of events) {
      if (now - at < RECENT_MS) break;
      events.delete(sessionId);
    }
    return events;
  }

  /** Those that do not come again are forgotten when somebody else comes. */
  #forgetOutdated(now: number): void {
    for (const [principal, { lastAt }] of this.#principals) {
      if (now - lastAt < RECENT_MS) break;
      this.#principals.delete(principal);
    }
  }
}
