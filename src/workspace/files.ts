/**
 * @module
 * The files of a workspace as versions: nothing is overwritten, a change adds a
 * version, and `files` says which one is current. Synchronous: the Workspace
 * object calls these inside its transactions.
 */
import type { Effect, Encoding, FileEntry, FileVersion, Origin } from "./types.ts";

export type CurrentFile = { version: number; sha256: string; bytes: number };

export type StoredContent = {
  path: string;
  version: number;
  sha256: string;
  bytes: number;
  encoding: Encoding;
  /** Null when the content is in the bucket. */
  content: string | ArrayBuffer | null;
};

export type NewVersion = {
  path: string;
  sha256: string | null;
  bytes: number;
  encoding: Encoding;
  content: string | Uint8Array | null;
  inBucket: boolean;
  origin: Origin;
  plan_hash: string;
  created_at: string;
};

/** The file as it is now, or null. */
export function currentFile(sql: SqlStorage, path: string): CurrentFile | null {
  return (
    sql
      .exec<CurrentFile>("SELECT version, sha256, bytes FROM files WHERE path = ?", path)
      .toArray()[0] ?? null
  );
}

const CONTENT_COLUMNS = "v.path, v.version, v.sha256, v.bytes, v.encoding, v.content";

/** The current content of a file, or of one version of it when `version` is given. */
export function readContent(
  sql: SqlStorage,
  path: string,
  version: number | null,
): StoredContent | null {
  type Row = {
    path: string;
    version: number;
    sha256: string;
    bytes: number;
    encoding: string;
    content: string | ArrayBuffer | null;
  };
  const row = (
    version === null
      ? sql.exec<Row>(
          `SELECT ${CONTENT_COLUMNS} FROM files f JOIN versions v
           ON v.path = f.path AND v.version = f.version WHERE f.path = ?`,
          path,
        )
      : sql.exec<Row>(
          `SELECT ${CONTENT_COLUMNS} FROM versions v WHERE path = ? AND version = ? AND deleted = 0`,
          path,
          version,
        )
  ).toArray()[0];
  if (row === undefined) return null;
  return { ...row, encoding: row.encoding === "base64" ? "base64" : "utf-8" };
}

/** Current files under a prefix, in byte order of their paths, after `after`. */
export function listFiles(
  sql: SqlStorage,
  prefix: string,
  after: string,
  limit: number,
): FileEntry[] {
  return sql
    .exec<FileEntry>(
      `SELECT path, sha256, bytes, version, updated_at FROM files
       WHERE path > ? AND path >= ? AND substr(path, 1, length(?)) = ? ORDER BY path LIMIT ?`,
      after,
      prefix,
      prefix,
      prefix,
      limit,
    )
    .toArray();
}

/** Every version of a file, newest first. */
export function fileHistory(sql: SqlStorage, path: string, limit: number): FileVersion[] {
  type Row = Omit<FileVersion, "deleted"> & { deleted: number };
  return sql
    .exec<Row>(
      `SELECT path, version, sha256, bytes, deleted, session_id, seq, principal, plan_hash, created_at
       FROM versions WHERE path = ? ORDER BY version DESC LIMIT ?`,
      path,
      limit,
    )
    .toArray()
    .map((row) => ({ ...row, deleted: row.deleted === 1 }));
}

/**
 * Adds a version and makes it current (a null `sha256` deletes the file).
 * Version numbers of a path go on after a deletion.
 */
export function addVersion(sql: SqlStorage, change: NewVersion): Effect {
  const before = currentFile(sql, change.path);
  const last = sql
    .exec<{ last: number | null }>(
      "SELECT max(version) AS last FROM versions WHERE path = ?",
      change.path,
    )
    .one().last;
  const version = (last ?? 0) + 1;
  const deleted = change.sha256 === null;
  sql.exec(
    `INSERT INTO versions (path, version, sha256, bytes, encoding, content, in_bucket, deleted,
       session_id, seq, principal, plan_hash, created_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`,
    change.path,
    version,
    change.sha256,
    change.bytes,
    change.encoding,
    change.content,
    change.inBucket ? 1 : 0,
    deleted ? 1 : 0,
    change.origin.session_id,
    change.origin.seq,
    change.origin.principal,
    change.plan_hash,
    change.created_at,
  );
  if (deleted) {
    sql.exec("DELETE FROM files WHERE path = ?", change.path);
  } else {
    sql.exec(
      `INSERT INTO files (path, version, sha256, bytes, updated_at) VALUES (?,?,?,?,?)
       ON CONFLICT (path) DO UPDATE SET version = excluded.version, sha256 = excluded.sha256,
         bytes = excluded.bytes, updated_at = excluded.updated_at`,
      change.path,
      version,
      change.sha256,
      change.bytes,
      change.created_at,
    );
  }
  sql.exec(
    "UPDATE facts SET current_bytes = current_bytes + ?",
    (deleted ? 0 : change.bytes) - (before?.bytes ?? 0),
  );
  return {
    path: change.path,
    sha256_before: before?.sha256 ?? null,
    sha256_after: change.sha256,
    version,
  };
}
