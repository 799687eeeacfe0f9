/**
 * @module
 * The archive in PostgreSQL, reached through Hyperdrive with its caching off:
 * a comparison that is answered from a cache would compare nothing.
 */
import type { Client } from "pg";
import { canonicalJson } from "../audit/canonical.ts";
import { parseJson } from "../audit/parse-json.ts";
import type { StoredRecord } from "../audit/record.ts";
import {
  type Archive,
  type ArchivedEntry,
  type ArchivedSession,
  BEFORE_ALL_SESSIONS,
  conflictsOf,
  ENTRY_FILTERS,
  type EntryPlace,
  type EntryQuery,
  type ExactCount,
  type IdleQuery,
  isSessionId,
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
import { withoutNul } from "./nul.ts";
import { inTransaction, withClient } from "./postgres-connection.ts";
import {
  addCounts,
  countsOfRecords,
  countsOfSession,
  type InsertedRecord,
} from "./postgres-counts.ts";
import { MIGRATIONS_TABLE, schemaProblem } from "./postgres-schema.ts";

const INSERT_SESSION = `
  INSERT INTO sessions (${SESSION_COLUMNS.join(", ")})
  VALUES (${SESSION_COLUMNS.map((_, at) => `$${at + 1}`).join(", ")})`;

/**
 * A repeated or overtaken flush must not turn the row back; an erased key stays erased, and
 * an end an end. A row that was rebuilt from segments has no key until its session brings it.
 */
const UPSERT_SESSION = `
  ${INSERT_SESSION}
  ON CONFLICT (session_id) DO UPDATE SET
    workspace_root = excluded.workspace_root, plan_hash = excluded.plan_hash,
    last_seen_at = excluded.last_seen_at, entries = excluded.entries, head = excluded.head,
    ended_at = coalesce(sessions.ended_at, excluded.ended_at),
    wrapped_key = CASE WHEN sessions.erased_at IS NULL
      THEN coalesce(sessions.wrapped_key, excluded.wrapped_key) END
  WHERE excluded.entries >= sessions.entries`;

/** Locked, so that of two that end a session one counts it. */
const SESSION_BEFORE =
  "SELECT ended_at IS NOT NULL AS ended FROM sessions WHERE session_id = $1 FOR UPDATE";

const COLUMN_TYPES: Readonly<Partial<Record<(typeof LINE_COLUMNS)[number], string>>> = {
  session_id: "uuid",
  seq: "integer",
  intent_seq: "integer",
  timestamp: "timestamptz",
};

function columnOf(column: (typeof LINE_COLUMNS)[number]): string {
  if (column === "context") return "nullif(record -> 'context', 'null')";
  const type = COLUMN_TYPES[column];
  const text = `record ->> '${column}'`;
  return type === undefined ? text : `(${text})::${type}`;
}

/** One parameter for a whole batch; each line is parsed once. */
const INSERT_RECORDS = `
  WITH batch AS MATERIALIZED (
    SELECT coalesce(searched, line)::jsonb AS record, line, hash_chain, args, args_text, salt
    FROM jsonb_to_recordset($1::jsonb) AS r(
      line text, searched text, hash_chain text, args text, args_text text, salt text
    )
  )
  INSERT INTO audit_log
    (${LINE_COLUMNS.join(", ")}, hash_chain, line, args, args_text, salt)
  SELECT ${LINE_COLUMNS.map(columnOf).join(", ")}, hash_chain, line, args::jsonb, args_text, salt
  FROM batch WHERE NOT EXISTS (
    SELECT 1 FROM audit_log_archive AS aside
    WHERE aside.session_id = (record ->> 'session_id')::uuid
      AND aside.seq = (record ->> 'seq')::integer
  )
  ON CONFLICT DO NOTHING
  RETURNING role, result, event, tool`;

/** What a hold has set aside is stored, too. */
const STORED_HASHES = `
  SELECT seq, hash_chain FROM audit_log WHERE session_id = $1 AND seq BETWEEN $2 AND $3
  UNION ALL
  SELECT seq, hash_chain FROM audit_log_archive WHERE session_id = $1 AND seq BETWEEN $2 AND $3`;

const iso = (column: string) =>
  `to_char(${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS ${column}`;

const SESSION_TIMES: readonly string[] = ["created_at", "last_seen_at", "ended_at"];
const SESSION_FIELDS = [
  ...SESSION_COLUMNS.map((column) => (SESSION_TIMES.includes(column) ? iso(column) : column)),
  iso("erased_at"),
  iso("retired_at"),
].join(", ");
const RECORD_FIELDS = "seq, line, hash_chain, args::text AS args, args_text, salt";
const ALL_FIELDS = [
  ...LINE_COLUMNS,
  ...["hash_chain", "line", "args", "args_text", "salt", "created_at"],
].join(", ");

/** How a record comes back: `args` as `jsonb` writes it, `args_text` where that is not exact. */
type RecordRow = StoredRecord & { args_text: string | null };
type EntryRow = RecordRow & EntryPlace;

export class PostgresArchive implements Archive {
  readonly kind = "postgres";
  readonly #url: string;
  readonly #maintenanceUrl: string;

  /** @param maintenanceUrl of a login that may step into `atlas_maintenance`, where it is another one */
  constructor(connectionString: string, maintenanceUrl = connectionString) {
    this.#url = connectionString;
    this.#maintenanceUrl = maintenanceUrl;
  }

  async write(
    session: SessionRow,
    records: readonly StoredRecord[],
    knownTools: readonly string[],
  ): Promise<number[]> {
    const batch = JSON.stringify(records.map(parameterOf));
    return withClient(this.#url, async (client) => {
      // A schema that is not this version's might take a record and lose part of it.
      const problem = await problemOfSchema(client);
      if (problem !== null) throw new Error(problem);
      return inTransaction(client, null, async () => {
        const sessions = await writeSession(client, session);
        const first = records[0];
        const last = records.at(-1);
        if (first === undefined || last === undefined) {
          await addCounts(client, sessions);
          return [];
        }
        const inserted = await client.query<InsertedRecord>(INSERT_RECORDS, [batch]);
        const stored = await client.query<{ seq: number; hash_chain: string }>(STORED_HASHES, [
          session.session_id,
          first.seq,
          last.seq,
        ]);
        await addCounts(client, [...sessions, ...countsOfRecords(inserted.rows, knownTools)]);
        return conflictsOf(records, stored.rows);
      });
    });
  }

  async counts(): Promise<ExactCount[]> {
    // PostgreSQL's bigint comes as a text; a count stays far below what a number holds exactly.
    return this.#rows<ExactCount>(
      "SELECT metric, labels, value::double precision AS value FROM metric_counts",
      [],
    );
  }

  async session(sessionId: string): Promise<ArchivedSession | null> {
    if (!isSessionId(sessionId)) return null;
    const rows = await this.#rows<ArchivedSession>(
      `SELECT ${SESSION_FIELDS} FROM sessions WHERE session_id = $1`,
      [sessionId],
    );
    return rows[0] ?? null;
  }

  async page(sessionId: string, afterSeq: number, limit: number): Promise<StoredRecord[]> {
    if (!isSessionId(sessionId)) return [];
    const rows = await this.#rows<RecordRow>(
      `SELECT ${RECORD_FIELDS} FROM audit_log WHERE session_id = $1 AND seq > $2
       UNION ALL
       SELECT ${RECORD_FIELDS} FROM audit_log_archive WHERE session_id = $1 AND seq > $2
       ORDER BY seq LIMIT $3`,
      [sessionId, afterSeq, limit],
    );
    return rows.map(recordOf);
  }

  async roots(sessionId: string): Promise<string[]> {
    if (!isSessionId(sessionId)) return [];
    const rows = await this.#rows<{ workspace_root: string }>(
      `SELECT workspace_root FROM audit_log
       WHERE session_id = $1 AND workspace_root IS NOT NULL
       UNION SELECT workspace_root FROM audit_log_archive
       WHERE session_id = $1 AND workspace_root IS NOT NULL`,
      [sessionId],
    );
    return rows.map((row) => row.workspace_root);
  }

  async sessions(query: SessionQuery): Promise<ArchivedSession[]> {
    const where = new Conditions();
    if (query.tenant !== undefined) where.add("tenant = ?", query.tenant);
    if (query.before !== undefined) where.add("session_id < ?", query.before);
    if (query.active !== undefined) where.add(`ended_at IS ${query.active ? "" : "NOT "}NULL`);
    return this.#rows<ArchivedSession>(
      `SELECT ${SESSION_FIELDS} FROM sessions ${where}
       ORDER BY sessions.session_id DESC LIMIT ${where.bind(query.limit)}`,
      where.bound,
    );
  }

  async entries(query: EntryQuery): Promise<ArchivedEntry[]> {
    if (query.session_id !== undefined && !isSessionId(query.session_id)) return [];
    const where = new Conditions();
    for (const column of ENTRY_FILTERS) {
      const wanted = query[column];
      // No column holds a NUL, and PostgreSQL takes none as a parameter.
      if (wanted !== undefined) where.add(`${column} = ?`, wanted.replaceAll("\u0000", "\ufffd"));
    }
    if (query.since !== undefined) where.add("timestamp >= ?", within(query.since));
    if (query.until !== undefined) where.add("timestamp <= ?", within(query.until));
    if (query.after !== null) {
      const { timestamp, session_id, seq } = query.after;
      where.add("(timestamp, session_id, seq) < (?, ?, ?)", timestamp, session_id, seq);
    }
    const rows = await this.#rows<EntryRow>(
      `SELECT session_id, ${iso("timestamp")}, ${RECORD_FIELDS} FROM audit_log ${where}
       ORDER BY audit_log.timestamp DESC, session_id DESC, seq DESC LIMIT ${where.bind(query.limit)}`,
      where.bound,
    );
    return rows.map(entryOf);
  }

  async scan({ since, before, after, limit }: ScanQuery): Promise<ArchivedEntry[]> {
    const place = after ?? { timestamp: since, session_id: BEFORE_ALL_SESSIONS, seq: 0 };
    const part = (table: Shelf) =>
      `(SELECT session_id, timestamp AS at, ${iso("timestamp")}, ${RECORD_FIELDS} FROM ${table}
        WHERE timestamp < $1 AND (timestamp, session_id, seq) > ($2, $3, $4)
        ORDER BY ${table}.timestamp, session_id, seq LIMIT $5)`;
    const rows = await this.#rows<EntryRow>(
      `${part("audit_log")} UNION ALL ${part("audit_log_archive")}
       ORDER BY at, session_id, seq LIMIT $5`,
      [before, place.timestamp, place.session_id, place.seq, limit],
    );
    return rows.map(entryOf);
  }

  async walk(query: WalkQuery): Promise<ArchivedSession[]> {
    const where = new Conditions();
    where.add("session_id > ?", query.after);
    if (query.endedBefore !== undefined) {
      where.add("ended_at < ?", query.endedBefore);
      where.add("retired_at IS NULL");
    }
    return this.#rows<ArchivedSession>(
      `SELECT ${SESSION_FIELDS} FROM sessions ${where}
       ORDER BY sessions.session_id LIMIT ${where.bind(query.limit)}`,
      where.bound,
    );
  }

  async countLive({ tenant, id }: SessionOwner, except: readonly string[]): Promise<number> {
    const rows = await this.#rows<{ n: number }>(
      `SELECT count(*)::int AS n FROM sessions
       WHERE principal = $1 AND ended_at IS NULL AND tenant = $2 AND era <> 'ambient'
         AND session_id <> ALL ($3::uuid[])`,
      [id, tenant, except],
    );
    return rows[0]?.n ?? 0;
  }

  async idle({ before, ambientBefore, limit }: IdleQuery): Promise<ArchivedSession[]> {
    return this.#rows<ArchivedSession>(
      `SELECT ${SESSION_FIELDS} FROM sessions
       WHERE ended_at IS NULL AND last_seen_at < $1 AND (era <> 'ambient' OR session_id < $2)
       ORDER BY sessions.last_seen_at LIMIT $3`,
      [before, ambientBefore, limit],
    );
  }

  async erase(sessionId: string, at: string): Promise<void> {
    await this.#maintain(async (client) => {
      await client.query(
        `UPDATE sessions SET wrapped_key = NULL, erased_at = coalesce(erased_at, $2)
         WHERE session_id = $1`,
        [sessionId, at],
      );
      for (const table of ["audit_log", "audit_log_archive"] as const) {
        await client.query(
          `UPDATE ${table} SET args = NULL, args_text = NULL, salt = NULL
           WHERE session_id = $1 AND salt IS NOT NULL`,
          [sessionId],
        );
      }
    });
  }

  async move(sessionId: string, to: Shelf): Promise<void> {
    const from = to === "audit_log" ? "audit_log_archive" : "audit_log";
    await this.#maintain(async (client) => {
      await client.query(
        `INSERT INTO ${to} (${ALL_FIELDS}) SELECT ${ALL_FIELDS} FROM ${from}
         WHERE session_id = $1 ON CONFLICT DO NOTHING`,
        [sessionId],
      );
      await client.query(`DELETE FROM ${from} WHERE session_id = $1`, [sessionId]);
    });
  }

  async retire(sessionId: string, at: string): Promise<void> {
    await this.#maintain(async (client) => {
      for (const table of ["audit_log", "audit_log_archive"] as const) {
        await client.query(`DELETE FROM ${table} WHERE session_id = $1`, [sessionId]);
      }
      await client.query(
        "UPDATE sessions SET retired_at = coalesce(retired_at, $2) WHERE session_id = $1",
        [sessionId, at],
      );
    });
  }

  async ready(): Promise<string | null> {
    return withClient(this.#url, async (client) => {
      const { rows } = await client.query<{ standby: boolean }>(
        "SELECT pg_is_in_recovery() AS standby",
      );
      if (rows[0]?.standby === true) return "the archive is read-only: it is a standby";
      return problemOfSchema(client);
    });
  }

  async #rows<Row extends object>(statement: string, bound: readonly unknown[]): Promise<Row[]> {
    return withClient(
      this.#url,
      async (client) => (await client.query<Row>(statement, [...bound])).rows,
    );
  }

  async #maintain(work: (client: Client) => Promise<void>): Promise<void> {
    await withClient(this.#maintenanceUrl, (client) =>
      inTransaction(client, "atlas_maintenance", () => work(client)),
    );
  }
}

/** Writes a session's row, and says what that changes in the number of live ones. */
async function writeSession(client: Client, session: SessionRow): Promise<ExactCount[]> {
  const values = SESSION_COLUMNS.map((column) => session[column]);
  let before = await lockSession(client, session.session_id);
  if (before === null) {
    const { rowCount } = await client.query(`${INSERT_SESSION} ON CONFLICT DO NOTHING`, values);
    if (rowCount === 1) return countsOfSession(session, null);
    // Another opened it in between the two statements.
    before = await lockSession(client, session.session_id);
  }
  const { rowCount } = await client.query(UPSERT_SESSION, values);
  // A row that is newer than this one stayed as it is.
  return rowCount === 0 ? [] : countsOfSession(session, before);
}

async function lockSession(client: Client, sessionId: string): Promise<{ ended: boolean } | null> {
  const { rows } = await client.query<{ ended: boolean }>(SESSION_BEFORE, [sessionId]);
  return rows[0] ?? null;
}

/** Conditions that are joined by AND, each with `?` for what is bound. */
class Conditions {
  readonly bound: unknown[] = [];
  readonly #parts: string[] = [];

  add(condition: string, ...values: readonly unknown[]): void {
    let at = 0;
    this.#parts.push(condition.replaceAll("?", () => this.bind(values[at++])));
  }

  bind(value: unknown): string {
    return `$${this.bound.push(value)}`;
  }

  toString(): string {
    return this.#parts.length === 0 ? "" : `WHERE ${this.#parts.join(" AND ")}`;
  }
}

function parameterOf({ line, hash_chain, args, salt }: StoredRecord) {
  const stripped = args === null ? null : withoutNul(args);
  return {
    line,
    searched: withoutNul(line),
    hash_chain,
    args: stripped ?? args,
    args_text: stripped === null ? null : args,
    salt,
  };
}

/** `jsonb` keeps a value, not its text; the canonical text is that of the value. */
function recordOf({ seq, line, hash_chain, args, args_text, salt }: RecordRow): StoredRecord {
  const text = args_text ?? (args === null ? null : canonicalJson(parseJson(args)));
  return { seq, line, hash_chain, args: text, salt };
}

/** PostgreSQL's code for a table that is not there. */
const UNDEFINED_TABLE = "42P01";

function entryOf(row: EntryRow): ArchivedEntry {
  return { ...recordOf(row), session_id: row.session_id, timestamp: row.timestamp };
}

/** What is wrong with the schema that a client finds, or null. */
async function problemOfSchema(client: Client): Promise<string | null> {
  try {
    const { rows } = await client.query<{ name: string }>(
      `SELECT name FROM ${MIGRATIONS_TABLE} ORDER BY name DESC LIMIT 1`,
    );
    return schemaProblem(rows[0]?.name ?? null);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === UNDEFINED_TABLE) {
      return schemaProblem(null);
    }
    throw error;
  }
}
