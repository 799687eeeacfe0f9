/**
 * @module
 * Keys that are about to end: said in the log a week before, once a key, and
 * answered for metrics and health.
 */
import { logEvent } from "./log.ts";

const DAY_MS = 86_400_000;
/** Long enough to rotate a key in working hours. */
export const REMIND_BEFORE_MS = 7 * DAY_MS;
/** Keys of one look: more of them end within a week only by one cause. */
const MAX_KEYS = 200;

export type EndingKey = {
  readonly id: string;
  readonly role: string;
  readonly tenant: string;
  readonly expires_at: string;
  /** Seconds. */
  readonly expires_in: number;
};

/** Whole seconds from now until a time, 0 once it is past. */
export function secondsUntil(time: string, now: number): number {
  return Math.max(0, Math.floor((Date.parse(time) - now) / 1000));
}

/**
 * The live keys that end within a time and have no successor yet, the next one
 * first. One index range: a scrape may ask.
 */
export async function endingKeys(
  db: D1Database,
  now: number,
  withinMs = REMIND_BEFORE_MS,
): Promise<EndingKey[]> {
  const { results } = await db
    .prepare(`SELECT id, role, tenant, expires_at FROM api_keys WHERE ${ENDING} ${NEXT_FIRST}`)
    .bind(iso(now), iso(now + withinMs))
    .all<Omit<EndingKey, "expires_in">>();
  return results.map((key) => ({ ...key, expires_in: secondsUntil(key.expires_at, now) }));
}

/** Says of each key once that it ends within a week. Never throws. */
export async function remindOfEndingKeys(db: D1Database, now: number): Promise<void> {
  try {
    // Marked and read in one statement: of two that look at once, one says it.
    const { results } = await db
      .prepare(
        `UPDATE api_keys SET reminded_at = ?3
         WHERE id IN (SELECT id FROM api_keys WHERE ${ENDING} AND reminded_at IS NULL ${NEXT_FIRST})
         RETURNING id, role, tenant, expires_at`,
      )
      .bind(iso(now), iso(now + REMIND_BEFORE_MS), iso(now))
      .all<Omit<EndingKey, "expires_in">>();
    for (const { id, role, tenant, expires_at } of results) {
      logEvent("warn", "key_ends_soon", {
        key_id: id,
        role,
        tenant,
        expires_at,
        expires_in: secondsUntil(expires_at, now),
      });
    }
  } catch (error) {
    logEvent("error", "keys_unreadable", { error: String(error) });
  }
}

/** A key that was rotated ends as it should. */
const ENDING = `revoked_at IS NULL AND expires_at > ?1 AND expires_at <= ?2
  AND NOT EXISTS (
    SELECT 1 FROM api_keys AS later
    WHERE later.line = api_keys.line AND later.revoked_at IS NULL
      AND later.expires_at > api_keys.expires_at
  )`;

const NEXT_FIRST = `ORDER BY expires_at LIMIT ${MAX_KEYS}`;

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
