/**
 * @module
 * The tables of a Workspace object. Created with the first change, never by a
 * read, so that asking for a workspace that holds nothing stores nothing.
 */

/** One row an operator and plan: the last time that the operator approved it, and for which pins. */
export const APPROVALS_TABLE = `
  CREATE TABLE IF NOT EXISTS plan_approvals (
    hash TEXT NOT NULL, by TEXT NOT NULL, at TEXT NOT NULL, reason TEXT, pins TEXT NOT NULL,
    PRIMARY KEY (hash, by)
  ) WITHOUT ROWID;
`;

export const WORKSPACE_TABLES = `
  CREATE TABLE IF NOT EXISTS facts (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    tenant TEXT NOT NULL, root TEXT NOT NULL,
    current_bytes INTEGER NOT NULL, registered INTEGER NOT NULL
  );
  CREATE TABLE IF NOT EXISTS versions (
    path TEXT NOT NULL, version INTEGER NOT NULL,
    sha256 TEXT, bytes INTEGER NOT NULL, encoding TEXT NOT NULL,
    content BLOB, in_bucket INTEGER NOT NULL, deleted INTEGER NOT NULL,
    session_id TEXT NOT NULL, seq INTEGER NOT NULL,
    principal TEXT NOT NULL, plan_hash TEXT NOT NULL, created_at TEXT NOT NULL,
    PRIMARY KEY (path, version)
  );
  CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, version INTEGER NOT NULL,
    sha256 TEXT NOT NULL, bytes INTEGER NOT NULL, updated_at TEXT NOT NULL
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS journal (
    session_id TEXT NOT NULL, seq INTEGER NOT NULL, outcome TEXT NOT NULL,
    PRIMARY KEY (session_id, seq)
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS refusals (
    session_id TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (session_id, seq)
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS plans (
    hash TEXT PRIMARY KEY, plan TEXT NOT NULL, title TEXT NOT NULL,
    status TEXT NOT NULL, saved_by TEXT NOT NULL, saved_at TEXT NOT NULL,
    approved_by TEXT, approved_at TEXT, approval_expires_at TEXT,
    revoked_by TEXT, revoked_at TEXT, reason TEXT, pins TEXT
  ) WITHOUT ROWID;
  ${APPROVALS_TABLE}
`;

/** Columns that objects made before do not have; they are added as the object wakes. */
export const ADDED_PLAN_COLUMNS = ["pins"] as const;

/**
 * Contents up to this many bytes live in the object's own SQLite; larger ones
 * in R2 under their SHA-256. A row of an object holds at most 2 MB, and old
 * versions stay for ever: source files fit here, build artefacts go to R2.
 */
export const INLINE_BYTES = 64 * 1024;
