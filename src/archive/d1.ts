/**
 * @module
 * The archive in D1: `ON CONFLICT DO NOTHING`, then a comparison, in one
 * transaction. Another hash at the same (session_id, seq) is reported, never
 * overwritten.
 */
import type { StoredRecord } from "../audit/record.ts";
import {
  type Archive,
  type ArchivedEntry,
  type ArchivedSession,
  conflictsOf,
  ENTRY_FILTERS,
  type EntryQuery,
  type ExactCount,
  type IdleQuery,
  LINE_COLUMNS,
  type ScanQuery,
  SESSION_COLUMNS,
  type SessionOwner,
  type SessionQuery,
  type SessionRow,
  type Shelf,
  type WalkQuery,
  within,
} from "./archive.ts";
import { countRecords, countSession } from "./d1-counts.ts";

/**
 * A repeated or overtaken flush must not turn the row back; an erased key stays erased, and
 * an end an end. A row that was rebuilt from segments has no key until its session brings it.
 */
const UPSERT_SESSION = `
  INSERT INTO sessions (${SESSION_COLUMNS.join(", ")})
  VALUES (${SESSION_COLUMNS.map(() => "?").join(", ")})
  ON CONFLICT (session_id) DO UPDATE SET
    workspace_root = excluded.workspace_root, plan_hash = excluded.plan_hash,
    last_seen_at = excluded.last_seen_at, entries = excluded.entries, head = excluded.head,
    ended_at = coalesce(sessions.ended_at, excluded.ended_at),
    wrapped_key = CASE WHEN sessions.erased_at IS NULL
      THEN coalesce(sessions.wrapped_key, excluded.wrapped_key) END
  WHERE excluded.entries >= sessions.entries`;

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
  INSERT INTO audit_log (${LINE_COLUMNS.join(", ")}, hash_chain, line, args, salt, created_at)
  SELECT ${LINE_COLUMNS.map((column) => `record ->> '$.${column}'`).join(", ")},
    hash_chain, line, args, salt, ?2
  FROM parsed WHERE NOT EXISTS (
    SELECT 1 FROM audit_log_archive AS aside
    WHERE aside.session_id = record ->> '$.session_id' AND aside.seq = record ->> '$.seq'
  )
  ON CONFLICT DO NOTHING`;

/** What a hold has set aside is stored, too. */
const STORED_HASHES = `
  SELECT seq, hash_chain FROM audit_log WHERE session_id = ?1 AND seq BETWEEN ?2 AND ?3
  UNION ALL
  SELECT seq, hash_chain FROM audit_log_archive WHERE session_id = ?1 AND seq BETWEEN ?2 AND ?3`;

const SESSION_FIELDS = `${SESSION_COLUMNS.join(", ")}, erased_at, retired_at`;
const RECORD_FIELDS = "seq, line, hash_chain, args, salt";
const ALL_FIELDS = [...LINE_COLUMNS, "hash_chain", "line", "args", "salt", "created_at"].join(", ");

/** A database, or a session of it that reads what an earlier answer has shown. */
export type D1Handle = Pick<D1Database, "prepare" | "batch">;

export class D1Archive implements Archive {
  readonly kind = "d1";
  readonly #db: D1Handle;

  constructor(db: D1Handle) {
    this.#db = db;
  }

  async write(
    session: SessionRow,
    records: readonly StoredRecord[],
    knownTools: readonly string[],
  ): Promise<number[]> {
    const counted = countSession(this.#db, session);
    const upsert = this.#db
      .prepare(UPSERT_SESSION)
      .bind(...SESSION_COLUMNS.map((column) => session[column]));
    const first = records[0];
    const last = records.at(-1);
    if (first === undefined || last === undefined) {
      await this.#db.batch([counted, upsert]);
      return [];
    }
    const batch = records.map(({ line, hash_chain, args, salt }) => ({
      line,
      hash_chain,
      args,
      salt,
    }));
    const answers = await this.#db.batch<{ seq: number; hash_chain: string }>([
      counted,
      upsert,
      countRecords(this.#db, batch, knownTools),
      this.#db.prepare(INSERT_RECORDS).bind(JSON.stringify(batch), new Date().toISOString()),
      this.#db.prepare(STORED_HASHES).bind(session.session_id, first.seq, last.seq),
    ]);
    return conflictsOf(records, answers.at(-1)?.results ?? []);
  }

  async counts(): Promise<ExactCount[]> {
    const { results } = await this.#db
      .prepare("SELECT metric, labels, value FROM metric_counts")
      .all<ExactCount>();
    return results;
  }

  async session(sessionId: string): Promise<ArchivedSession | null> {
    return this.#db
      .prepare(`SELECT ${SESSION_FIELDS} FROM sessions WHERE session_id = ?`)
      .bind(sessionId)
      .first<ArchivedSession>();
  }

  async page(sessionId: string, afterSeq: number, limit: number): Promise<StoredRecord[]> {
    const { results } = await this.#db
      .prepare(
        `SELECT ${RECORD_FIELDS} FROM audit_log WHERE session_id = ?1 AND seq > ?2
         UNION ALL
         SELECT ${RECORD_FIELDS} FROM audit_log_archive WHERE session_id = ?1 AND seq > ?2
         ORDER BY seq LIMIT ?3`,
      )
      .bind(sessionId, afterSeq, limit)
      .all<StoredRecord>();
    return results;
  }

  async roots(sessionId: string): Promise<string[]> {
    const { results } = await this.#db
      .prepare(
        `SELECT workspace_root FROM audit_log
         WHERE session_id = ?1 AND workspace_root IS NOT NULL
         UNION SELECT workspace_root FROM audit_log_archive
         WHERE session_id = ?1 AND workspace_root IS NOT NULL`,
      )
      .bind(sessionId)
      .all<{ workspace_root: string }>();
    return results.map((row) => row.workspace_root);
  }

  async sessions(query: SessionQuery): Promise<ArchivedSession[]> {
    const { where, bound } = conditions([
      ["tenant = ?", query.tenant],
      ["session_id < ?", query.before],
    ]);
    const active =
      query.active === undefined ? [] : [`ended_at IS ${query.active ? "" : "NOT "}NULL`];
    // Ids begin with their time, so that this is the order of opening.
    const { results } = await this.#db
      .prepare(
        `SELECT ${SESSION_FIELDS} FROM sessions ${whereOf([...where, ...active])}
         ORDER BY session_id DESC LIMIT ?`,
      )
      .bind(...bound, query.limit)
      .all<ArchivedSession>();
    return results;
  }

  async entries(query: EntryQuery): Promise<ArchivedEntry[]> {
    const { where, bound } = conditions([
      ...ENTRY_FILTERS.map((column) => [`${column} = ?`, query[column]] as const),
      ["timestamp >= ?", query.since && within(query.since)],
      ["timestamp <= ?", query.until && within(query.until)],
    ]);
    const { after } = query;
    const place = after === null ? [] : ["(timestamp, session_id, seq) < (?, ?, ?)"];
    const { results } = await this.#db
      .prepare(
        `SELECT session_id, timestamp, ${RECORD_FIELDS} FROM audit_log
         ${whereOf([...where, ...place])}
         ORDER BY timestamp DESC, session_id DESC, seq DESC LIMIT ?`,
      )
      .bind(
        ...bound,
        ...(after === null ? [] : [after.timestamp, after.session_id, after.seq]),
        query.limit,
      )
      .all<ArchivedEntry>();
    return results;
  }

  async scan({ since, before, after, limit }: ScanQuery): Promise<ArchivedEntry[]> {
    const place = after ?? { timestamp: since, session_id: "", seq: 0 };
    const part = (table: Shelf) =>
      `SELECT * FROM (SELECT session_id, timestamp, ${RECORD_FIELDS} FROM ${table}
       WHERE timestamp < ?1 AND (timestamp, session_id, seq) > (?2, ?3, ?4)
       ORDER BY timestamp, session_id, seq LIMIT ?5)`;
    const { results } = await this.#db
      .prepare(
        `${part("audit_log")} UNION ALL ${part("audit_log_archive")}
         ORDER BY timestamp, session_id, seq LIMIT ?5`,
      )
      .bind(before, place.timestamp, place.session_id, place.seq, limit)
      .all<ArchivedEntry>();
    return results;
  }

  async walk(query: WalkQuery): Promise<ArchivedSession[]> {
    const { where, bound } = conditions([
      ["session_id > ?", query.after],
      ["ended_at < ? AND retired_at IS NULL", query.endedBefore],
    ]);
    const { results } = await this.#db
      .prepare(
        `SELECT ${SESSION_FIELDS} FROM sessions ${whereOf(where)} ORDER BY session_id LIMIT ?`,
      )
      .bind(...bound, query.limit)
      .all<ArchivedSession>();
    return results;
  }

  async countLive({ tenant, id }: SessionOwner, except: readonly string[]): Promise<number> {
    const row = await this.#db
      .prepare(
        `SELECT count(*) AS n FROM sessions
         WHERE principal = ?1 AND ended_at IS NULL AND tenant = ?2 AND era <> 'ambient'
           AND session_id NOT IN (SELECT value FROM json_each(?3))`,
      )
      .bind(id, tenant, JSON.stringify(except))
      .first<{ n: number }>();
    return row?.n ?? 0;
  }

  async idle({ before, ambientBefore, limit }: IdleQuery): Promise<ArchivedSession[]> {
    const { results } = await this.#db
      .prepare(
        `SELECT ${SESSION_FIELDS} FROM sessions
         WHERE ended_at IS NULL AND last_seen_at < ? AND (era <> 'ambient' OR session_id < ?)
         ORDER BY last_seen_at LIMIT ?`,
      )
      .bind(before, ambientBefore, limit)
      .all<ArchivedSession>();
    return results;
  }

  async erase(sessionId: string, at: string): Promise<void> {
    await this.#db.batch([
      this.#db
        .prepare(
          "UPDATE sessions SET wrapped_key = NULL, erased_at = coalesce(erased_at, ?) WHERE session_id = ?",
        )
        .bind(at, sessionId),
      ...(["audit_log", "audit_log_archive"] as const).map((table) =>
        this.#db
          .prepare(`UPDATE ${table} SET args = NULL, salt = NULL WHERE session_id = ?`)
          .bind(sessionId),
      ),
    ]);
  }

  async move(sessionId: string, to: Shelf): Promise<void> {
    const from = to === "audit_log" ? "audit_log_archive" : "audit_log";
    await this.#db.batch([
      this.#db
        .prepare(
          `INSERT INTO ${to} (${ALL_FIELDS}) SELECT ${ALL_FIELDS} FROM ${from}
           WHERE session_id = ? ON CONFLICT DO NOTHING`,
        )
        .bind(sessionId),
      this.#db.prepare(`DELETE FROM ${from} WHERE session_id = ?`).bind(sessionId),
    ]);
  }

  async retire(sessionId: string, at: string): Promise<void> {
    await this.#db.batch([
      ...(["audit_log", "audit_log_archive"] as const).map((table) =>
        this.#db.prepare(`DELETE FROM ${table} WHERE session_id = ?`).bind(sessionId),
      ),
      this.#db
        .prepare("UPDATE sessions SET retired_at = coalesce(retired_at, ?) WHERE session_id = ?")
        .bind(at, sessionId),
    ]);
  }

  async ready(): Promise<string | null> {
    // Names what the newest migration added: D1 says nothing of its migrations to a Worker.
    await this.#db.prepare("SELECT value FROM metric_counts LIMIT 1").run();
    await this.#db.prepare("SELECT session_id FROM audit_log LIMIT 1").run();
    return null;
  }
}

/** The conditions that are asked for, and what is bound for them. */
function conditions(wanted: readonly (readonly [string, string | undefined])[]) {
  const given = wanted.flatMap(([condition, value]) =>
    value === undefined ? [] : [{ condition, value }],
  );
  return {
    where: given.map(({ condition }) => condition),
    bound: given.map(({ value }) => value),
  };
}

function whereOf(parts: readonly string[]): string {
  return parts.length === 0 ? "" : `WHERE ${parts.join(" AND ")}`;
}
