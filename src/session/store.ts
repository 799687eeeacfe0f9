/**
 * @module
 * The storage of a Session object: its tables and every statement on them.
 * Nothing is indexed beyond the key, and a record is one row, because the
 * append is the hot path. All of it is synchronous.
 */
import type { StoredRecord } from "../audit/record.ts";
import { type SessionState, sessionStateSchema } from "./state.ts";

const TABLES = `
  CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY CHECK (id = 1), json TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS records (
    seq INTEGER PRIMARY KEY, line TEXT NOT NULL, hash_chain TEXT NOT NULL, args TEXT, salt TEXT
  );
  CREATE TABLE IF NOT EXISTS open_intents (seq INTEGER PRIMARY KEY, json TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS due (what TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS sinks (
    sink TEXT PRIMARY KEY, cursor INTEGER NOT NULL, failures INTEGER NOT NULL, pending_last INTEGER
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS conflicts (
    sink TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (sink, seq)
  ) WITHOUT ROWID;
`;

export const SINKS = ["archive", "segments", "log"] as const;
export type SinkName = (typeof SINKS)[number];

/** How far a sink has come: every record up to `cursor` is in it. */
export type SinkState = {
  cursor: number;
  failures: number;
  /** The last record of a segment whose PUT was begun: a retry must write the same bytes. */
  pendingLast: number | null;
};

/** The times that the object's one alarm serves. */
export type Due = SinkName | "idle";

export class SessionStore {
  readonly #sql: SqlStorage;
  readonly #sinks = new Map<SinkName, SinkState>();

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  /** The state of a session that was opened, or null. Reads only: an object that was merely asked stores nothing. */
  load(): SessionState | null {
    const opened = this.#sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'state'").toArray();
    if (opened.length === 0) return null;
    const row = this.#sql.exec<{ json: string }>("SELECT json FROM state").toArray()[0];
    return row === undefined ? null : sessionStateSchema.parse(JSON.parse(row.json));
  }

  create(state: SessionState): void {
    this.#sql.exec(TABLES);
    this.#sql.exec("INSERT INTO state (id, json) VALUES (1, ?)", JSON.stringify(state));
    for (const sink of SINKS) {
      this.#sql.exec("INSERT INTO sinks (sink, cursor, failures) VALUES (?, 0, 0)", sink);
    }
  }

  saveState(state: SessionState): void {
    this.#sql.exec("UPDATE state SET json = ?", JSON.stringify(state));
  }

  // ── records ─────────────────────────────────────────────────────────────

  append(record: StoredRecord): void {
    this.#sql.exec(
      "INSERT INTO records (seq, line, hash_chain, args, salt) VALUES (?, ?, ?, ?, ?)",
      record.seq,
      record.line,
      record.hash_chain,
      record.args,
      record.salt,
    );
  }

  lastRecord(): StoredRecord | null {
    return (
      this.#sql
        .exec<StoredRecord>("SELECT * FROM records ORDER BY seq DESC LIMIT 1")
        .toArray()[0] ?? null
    );
  }

  /** Records after `afterSeq`, in order. */
  records(afterSeq: number, limit: number): StoredRecord[] {
    return this.#sql
      .exec<StoredRecord>(
        "SELECT seq, line, hash_chain, args, salt FROM records WHERE seq > ? ORDER BY seq LIMIT ?",
        afterSeq,
        limit,
      )
      .toArray();
  }

  /** Records after `afterSeq` until their text passes `maxBytes` of UTF-8 (at least one, if there is one). */
  batch(afterSeq: number, limit: number, maxBytes: number): StoredRecord[] {
    const batch: StoredRecord[] = [];
    let bytes = 0;
    const rows = this.#sql.exec<StoredRecord>(
      "SELECT seq, line, hash_chain, args, salt FROM records WHERE seq > ? ORDER BY seq LIMIT ?",
      afterSeq,
      limit,
    );
    for (const row of rows) {
      bytes += Buffer.byteLength(row.line) + (row.args === null ? 0 : Buffer.byteLength(row.args));
      if (batch.length > 0 && bytes > maxBytes) break;
      batch.push(row);
    }
    return batch;
  }

  /** Characters of record text after `afterSeq`: how much a segment would hold. */
  textAfter(afterSeq: number): number {
    return (
      this.#sql
        .exec<{ chars: number | null }>(
          "SELECT sum(length(line) + coalesce(length(args), 0)) AS chars FROM records WHERE seq > ?",
          afterSeq,
        )
        .one().chars ?? 0
    );
  }

  // ── intents ─────────────────────────────────────────────────────────────

  openIntent(seq: number, json: string): void {
    this.#sql.exec("INSERT INTO open_intents (seq, json) VALUES (?, ?)", seq, json);
  }

  isOpen(seq: number): boolean {
    return this.#sql.exec("SELECT 1 FROM open_intents WHERE seq = ?", seq).toArray().length > 0;
  }

  closeIntent(seq: number): void {
    this.#sql.exec("DELETE FROM open_intents WHERE seq = ?", seq);
  }

  openIntents(): { seq: number; json: string }[] {
    return this.#sql
      .exec<{ seq: number; json: string }>("SELECT seq, json FROM open_intents ORDER BY seq")
      .toArray();
  }

  // ── due times ───────────────────────────────────────────────────────────

  dueTimes(): { what: Due; at: number }[] {
    return this.#sql
      .exec<{ what: string; at: number }>("SELECT what, at FROM due ORDER BY at")
      .toArray()
      .flatMap((row) => (isDue(row.what) ? [{ what: row.what, at: row.at }] : []));
  }

  setDue(what: Due, at: number): void {
    this.#sql.exec(
      "INSERT INTO due (what, at) VALUES (?, ?) ON CONFLICT (what) DO UPDATE SET at = excluded.at",
      what,
      Math.ceil(at),
    );
  }

  clearDue(what: Due): void {
    this.#sql.exec("DELETE FROM due WHERE what = ?", what);
  }

  // ── sinks ───────────────────────────────────────────────────────────────

  /** Kept in memory: every call asks how far the archive is behind. */
  sink(name: SinkName): SinkState {
    const known = this.#sinks.get(name);
    if (known !== undefined) return known;
    const row = this.#sql
      .exec<{ cursor: number; failures: number; pending_last: number | null }>(
        "SELECT cursor, failures, pending_last FROM sinks WHERE sink = ?",
        name,
      )
      .toArray()[0];
    // A session may be older than a sink.
    const state = {
      cursor: row?.cursor ?? 0,
      failures: row?.failures ?? 0,
      pendingLast: row?.pending_last ?? null,
    };
    this.#sinks.set(name, state);
    return state;
  }

  saveSink(name: SinkName, state: SinkState): void {
    this.#sql.exec(
      "INSERT OR REPLACE INTO sinks (sink, cursor, failures, pending_last) VALUES (?, ?, ?, ?)",
      name,
      state.cursor,
      state.failures,
      state.pendingLast,
    );
    this.#sinks.set(name, state);
  }

  addConflict(sink: SinkName, seq: number): void {
    this.#sql.exec(
      "INSERT INTO conflicts (sink, seq) VALUES (?, ?) ON CONFLICT DO NOTHING",
      sink,
      seq,
    );
  }

  hasConflict(sink: SinkName, seq: number): boolean {
    const known = this.#sql.exec("SELECT 1 FROM conflicts WHERE sink = ? AND seq = ?", sink, seq);
    return known.toArray().length > 0;
  }

  hasConflicts(): boolean {
    return this.#sql.exec("SELECT 1 FROM conflicts LIMIT 1").toArray().length > 0;
  }
}

function isDue(what: string): what is Due {
  return what === "idle" || SINKS.some((sink) => sink === what);
}
