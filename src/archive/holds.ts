/**
 * @module
 * Legal holds: what one covers is neither retired nor erased while it stands.
 */

export type LegalHold = {
  readonly id: string;
  readonly tenant: string;
  /** Null: every session of the tenant. */
  readonly session_id: string | null;
  readonly reason: string;
  readonly created_at: string;
  readonly created_by: string;
};

const FIELDS = "id, tenant, session_id, reason, created_at, created_by";

/** Holds in the order of their ids, after one. */
export async function listHolds(
  db: D1Database,
  after: string,
  limit: number,
): Promise<LegalHold[]> {
  const { results } = await db
    .prepare(`SELECT ${FIELDS} FROM legal_holds WHERE id > ? ORDER BY id LIMIT ?`)
    .bind(after, limit)
    .all<LegalHold>();
  return results;
}

export async function readHold(db: D1Database, id: string): Promise<LegalHold | null> {
  return db.prepare(`SELECT ${FIELDS} FROM legal_holds WHERE id = ?`).bind(id).first<LegalHold>();
}

export async function addHold(db: D1Database, hold: LegalHold): Promise<void> {
  await db
    .prepare(`INSERT INTO legal_holds (${FIELDS}) VALUES (?, ?, ?, ?, ?, ?)`)
    .bind(hold.id, hold.tenant, hold.session_id, hold.reason, hold.created_at, hold.created_by)
    .run();
}

export async function removeHold(db: D1Database, id: string): Promise<void> {
  await db.prepare("DELETE FROM legal_holds WHERE id = ?").bind(id).run();
}

/** Whether any hold covers a session. */
export async function isHeld(db: D1Database, tenant: string, sessionId: string): Promise<boolean> {
  const hold = await db
    .prepare(
      "SELECT id FROM legal_holds WHERE tenant = ? AND (session_id IS NULL OR session_id = ?) LIMIT 1",
    )
    .bind(tenant, sessionId)
    .first();
  return hold !== null;
}
