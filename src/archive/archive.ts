/**
 * @module
 * The relational archive: sessions and their records, in D1 or in PostgreSQL.
 * Records arrive at least once and are stored exactly once. Everything else of
 * a deployment (keys, upstreams, holds) is in D1 whichever it is.
 */
import type { StoredRecord } from "../audit/record.ts";

/** The index row of a session, as its object knows it at the time of a flush. */
export type SessionRow = {
  readonly session_id: string;
  readonly tenant: string;
  readonly principal: string;
  readonly role: string;
  readonly era: string;
  readonly workspace_root: string | null;
  readonly plan_hash: string | null;
  readonly created_at: string;
  readonly last_seen_at: string;
  readonly entries: number;
  readonly head: string | null;
  readonly ended_at: string | null;
  /** Null once it is erased. */
  readonly wrapped_key: string | null;
};

/** The same as the archive keeps it. */
export type ArchivedSession = SessionRow & {
  readonly erased_at: string | null;
  /** Since then its records are in R2 alone. */
  readonly retired_at: string | null;
};

export const SESSION_COLUMNS = [
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

/** Columns of a record that are read from its line. */
export const LINE_COLUMNS = [
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

/** The place of an entry in the order of paging, which is newest first. */
export type EntryPlace = {
  readonly timestamp: string;
  readonly session_id: string;
  readonly seq: number;
};

/** A record with its place. */
export type ArchivedEntry = StoredRecord & EntryPlace;

/** Columns that entries are searched by. */
export const ENTRY_FILTERS = [
  "session_id",
  "tool",
  "role",
  "result",
  "error_code",
  "plan_hash",
] as const;

export type EntryQuery = Readonly<
  Partial<Record<(typeof ENTRY_FILTERS)[number], string | undefined>>
> & {
  /** First and last timestamp, as `Date.prototype.toISOString` writes them. */
  readonly since?: string | undefined;
  readonly until?: string | undefined;
  /** Only what comes after this place. */
  readonly after: EntryPlace | null;
  readonly limit: number;
};

export type SessionQuery = {
  readonly tenant?: string | undefined;
  readonly active?: boolean | undefined;
  /** Only sessions whose id is less. */
  readonly before?: string | undefined;
  readonly limit: number;
};

export type IdleQuery = {
  readonly before: string;
  /** An ambient session may be idle for its day: only those whose id is less count. */
  readonly ambientBefore: string;
  readonly limit: number;
};

/** What the daily work asks for: sessions in the order of their ids, from one on. */
export type WalkQuery = {
  readonly after: string;
  /** Only sessions that ended before this time, and whose records have not left yet. */
  readonly endedBefore?: string | undefined;
  readonly limit: number;
};

/** What a backup asks for: every record of a span of time, oldest first. */
export type ScanQuery = {
  readonly since: string;
  /** The first time that is not in the span any more. */
  readonly before: string;
  /** Only what comes after this place. */
  readonly after: EntryPlace | null;
  readonly limit: number;
};

/** Which table a session's records are moved to or from. */
export type Shelf = "audit_log" | "audit_log_archive";

/** A principal, by its tenant and id. */
export type SessionOwner = { readonly tenant: string; readonly id: string };

/** One count; `labels` is a JSON object, its keys in the order of the metrics' catalogue. */
export type ExactCount = {
  readonly metric: string;
  readonly labels: string;
  readonly value: number;
};

export interface Archive {
  readonly kind: "d1" | "postgres";

  /**
   * Writes a session's row and a run of its records in one transaction, and counts
   * in it what is new; tools outside `knownTools` under one name. Returns the seqs
   * at which the archive holds another record than the session: an alarm. Throws
   * when the archive does not answer; repeating is safe.
   */
  write(
    session: SessionRow,
    records: readonly StoredRecord[],
    knownTools: readonly string[],
  ): Promise<number[]>;

  /** What `write` has counted; a small table, whatever the archive holds. */
  counts(): Promise<ExactCount[]>;

  /** The row of a session, or null. */
  session(sessionId: string): Promise<ArchivedSession | null>;
  /** Records of a session in order, after `afterSeq`; those that a hold keeps past retention too. */
  page(sessionId: string, afterSeq: number, limit: number): Promise<StoredRecord[]>;
  /** Every workspace that occurs in a session's records. */
  roots(sessionId: string): Promise<string[]>;
  /** Sessions, newest first. */
  sessions(query: SessionQuery): Promise<ArchivedSession[]>;
  /** Records within their retention, newest first. */
  entries(query: EntryQuery): Promise<ArchivedEntry[]>;
  /** Records of a span of time, oldest first, those that a hold keeps past retention too. */
  scan(query: ScanQuery): Promise<ArchivedEntry[]>;
  /** Sessions in the order of their ids. */
  walk(query: WalkQuery): Promise<ArchivedSession[]>;
  /** How many sessions of an owner have not ended, ambient ones and those in `except` apart. */
  countLive(owner: SessionOwner, except: readonly string[]): Promise<number>;
  /** Sessions that have not ended and were last seen before a time, longest ago first; ambient ones with a lesser id alone. */
  idle(query: IdleQuery): Promise<ArchivedSession[]>;

  /** Destroys a session's key and sets `args` and `salt` of its records to null. Repeating is safe. */
  erase(sessionId: string, at: string): Promise<void>;
  /** Moves a session's records between the searched table and its twin. */
  move(sessionId: string, to: Shelf): Promise<void>;
  /** Removes a session's records from both tables; its row stays and says when. */
  retire(sessionId: string, at: string): Promise<void>;

  /** Null when it answers and its schema is this version's; else what is wrong. Throws when it does not answer. */
  ready(): Promise<string | null>;
}

/** Before every session's id. */
export const BEFORE_ALL_SESSIONS = "00000000-0000-0000-0000-000000000000";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Whether a text can be a session's id at all: a database with a type for it would refuse any other. */
export function isSessionId(text: string): boolean {
  return UUID.test(text);
}

/** A time within the years 1 to 9999: others are written in another form, which sorts otherwise. */
export function within(time: string): string {
  if (time.startsWith("+")) return "9999-12-31T23:59:59.999Z";
  return time.startsWith("-") || time < "0001" ? "0001-01-01T00:00:00.000Z" : time;
}

/** The seqs of `records` at which something else is stored, or nothing. */
export function conflictsOf(
  records: readonly StoredRecord[],
  stored: Iterable<{ seq: number; hash_chain: string }>,
): number[] {
  const hashes = new Map(Array.from(stored, (row) => [row.seq, row.hash_chain]));
  return records
    .filter((record) => hashes.get(record.seq) !== record.hash_chain)
    .map((record) => record.seq);
}
