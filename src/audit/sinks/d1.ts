/**
 * @module
 * The archive in D1. Records arrive at least once and are stored exactly once:
 * `ON CONFLICT DO NOTHING`, then a comparison, in one transaction. Another hash
 * at the same (session_id, seq) is reported, never overwritten.
 */
import type { StoredRecord } from "../record.ts";
import { countRecords, countSession } from "./counts.ts";

/** The index row of a session, as its object knows it at the time of a flush. */
export type SessionRow = {
  session_id: string;
  tenant: string;
  principal: string;
  role: string;
  era: string;
  workspace_root: string | null;
  plan_hash: string | null;
  created_at: string;
  last_seen_at: string;
  entries: number;
  head: string | null;
  ended_at: string | null;
  wrapped_key: string;
};

const SESSION_COLUMNS = [
  "session_id",
  "tenant",
  "principal",
  "role",
  "era",
  "workspace_root",
  "plan_hash",
  "created_at",
  "last_seen_at",
  "entries",
  "head",
  "ended_at",
  "wrapped_key",
] as const satisfies readonly (keyof SessionRow)[];

/** A repeated or overtaken flush must not turn the row back, and an erased key stays erased. */
const UPSERT_SESSION = `
  INSERT INTO sessions (${SESSION_COLUMNS.join(", ")})
  VALUES (${SESSION_COLUMNS.map(() => "?").join(", ")})
  ON CONFLICT (session_id) DO UPDATE SET
    workspace_root = excluded.workspace_root, plan_hash = excluded.plan_hash,
    last_seen_at = excluded.last_seen_at, entries = excluded.entries, head = excluded.head,
    ended_at = excluded.ended_at
  WHERE excluded.entries >= sessions.entries`;

const FROM_LINE = [
  "session_id",
  "seq",
  "tenant",
  "timestamp",
  "principal",
  "role",
  "event",
  "tool",
  "workspace_root",
  "plan_hash",
  "result",
  "error_code",
  "args_hash",
  "args_stored_hash",
  "result_hash",
  "intent_seq",
  "request_id",
  "notes",
  "context",
  "prev_hash",
] as const;

/**
 * One bound parameter for a whole batch: D1 allows 100 a statement. Each line is
 * parsed once, into JSONB, and not anew for every column.
 */
const INSERT_RECORDS = `
  WITH batch AS MATERIALIZED (
    SELECT value ->> '$.line' AS line, value ->> '$.hash_chain' AS hash_chain,
      value ->> '$.args' AS args, value ->> '$.salt' AS salt
    FROM json_each(?1)
  ), parsed AS MATERIALIZED (SELECT *, jsonb(line) AS record FROM batch)
  INSERT INTO audit_log (${FROM_LINE.join(", ")}, hash_chain, line, args, salt, created_at)
  SELECT ${FROM_LINE.map((column) => `record ->> '$.${column}'`).join(", ")},
    hash_chain, line, args, salt, ?2
  FROM parsed WHERE true
  ON CONFLICT DO NOTHING`;

const STORED_HASHES =
  "SELECT seq, hash_chain FROM audit_log WHERE session_id = ? AND seq BETWEEN ? AND ?";

/**
 * Writes a session's row and a run of its records in one transaction. Returns
 * the seqs at which the archive holds another record than the session: an
 * alarm. What is new is counted in the same transaction; tools outside
 * `knownTools` under one name. Throws when D1 does not answer; repeating is safe.
 */
export async function archiveToD1(
  db: D1Database,
  session: SessionRow,
  records: readonly StoredRecord[],
  knownTools: readonly string[],
): Promise<number[]> {
  const counted = countSession(db, session);
  const upsert = db
    .prepare(UPSERT_SESSION)
    .bind(...SESSION_COLUMNS.map((column) => session[column]));
  const first = records[0];
  const last = records.at(-1);
  if (first === undefined || last === undefined) {
    await db.batch([counted, upsert]);
    return [];
  }
  const batch = records.map(({ line, hash_chain, args, salt }) => ({
    line,
    hash_chain,
    args,
    salt,
  }));
  const answers = await db.batch<{ seq: number; hash_chain: string }>([
    counted,
    upsert,
    countRecords(db, batch, knownTools),
    db.prepare(INSERT_RECORDS).bind(JSON.stringify(batch), new Date().toISOString()),
    db.prepare(STORED_HASHES).bind(session.session_id, first.seq, last.seq),
  ]);
  const stored = new Map(answers.at(-1)?.results.map((row) => [row.seq, row.hash_chain]));
  return records
    .filter((record) => stored.get(record.seq) !== record.hash_chain)
    .map((record) => record.seq);
}

/** Records of a session from the archive, in order, after `afterSeq`. */
export async function readArchive(
  db: D1Database,
  sessionId: string,
  afterSeq: number,
  limit: number,
): Promise<StoredRecord[]> {
  const { results } = await db
    .prepare(
      `SELECT seq, line, hash_chain, args, salt FROM audit_log
       WHERE session_id = ? AND seq > ? ORDER BY seq LIMIT ?`,
    )
    .bind(sessionId, afterSeq, limit)
    .all<StoredRecord>();
  return results;
}

/** Every workspace that occurs in a session's records. */
export async function archivedRoots(db: D1Database, sessionId: string): Promise<string[]> {
  const { results } = await db
    .prepare(
      `SELECT DISTINCT workspace_root FROM audit_log
       WHERE session_id = ? AND workspace_root IS NOT NULL`,
    )
    .bind(sessionId)
    .all<{ workspace_root: string }>();
  return results.map((row) => row.workspace_root);
}

/** The archive's row of a session, or null. */
export async function readSessionRow(
  db: D1Database,
  sessionId: string,
): Promise<SessionRow | null> {
  return db
    .prepare(`SELECT ${SESSION_COLUMNS.join(", ")} FROM sessions WHERE session_id = ?`)
    .bind(sessionId)
    .first<SessionRow>();
}
