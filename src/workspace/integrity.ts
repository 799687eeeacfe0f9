/**
 * @module
 * Recomputes what a workspace claims about itself: that each version, old ones
 * too, has the content on record and is what the call behind it wrote, that
 * each file is its last version, and that each plan has the hash it is filed under.
 */
import { createHash } from "node:crypto";
import { planHash } from "../policy/plan.ts";
import { getBlob } from "./blobs.ts";
import { currentFile, readContent } from "./files.ts";
import {
  type IntegrityFinding,
  type JournalOutcome,
  journalOutcomeSchema,
  type WorkspaceIntegrity,
} from "./types.ts";

/** Findings past this many only count: one broken disk must not make an endless answer. */
const MAX_FINDINGS = 200;

export async function checkIntegrity(
  sql: SqlStorage,
  bucket: R2Bucket,
  tenant: string,
): Promise<WorkspaceIntegrity> {
  const files: IntegrityFinding[] = [];
  const plans: IntegrityFinding[] = [];
  const paths = sql.exec<{ path: string }>("SELECT path FROM files ORDER BY path").toArray();
  for (const { path } of paths) files.push(...checkEntry(sql, path));
  const versions = sql
    .exec<{ path: string; version: number }>(
      "SELECT path, version FROM versions ORDER BY path, version",
    )
    .toArray();
  for (const { path, version } of versions) {
    files.push(...checkCall(sql, path, version));
    files.push(...(await checkContent(sql, bucket, tenant, path, version)));
  }
  const rows = sql.exec<{ hash: string; plan: string }>("SELECT hash, plan FROM plans").toArray();
  for (const row of rows) {
    if (hashOfText(row.plan) !== row.hash) {
      plans.push({
        code: "PLAN_HASH_MISMATCH",
        message: `The plan filed as ${row.hash} is another plan.`,
      });
    }
  }
  return {
    files: { ok: files.length === 0, checked: paths.length },
    plans: { ok: plans.length === 0, checked: rows.length },
    findings: [...files, ...plans].slice(0, MAX_FINDINGS),
  };
}

/** The hash of a stored plan, or null when it is not even JSON any more. */
function hashOfText(text: string): string | null {
  try {
    return planHash(JSON.parse(text));
  } catch {
    return null;
  }
}

type VersionRow = { version: number; sha256: string | null; bytes: number; deleted: number };

/** A current file is the last version of its path, and that one is no deletion. */
function checkEntry(sql: SqlStorage, path: string): IntegrityFinding[] {
  const entry = currentFile(sql, path);
  const last = sql
    .exec<VersionRow>(
      "SELECT version, sha256, bytes, deleted FROM versions WHERE path = ? ORDER BY version DESC LIMIT 1",
      path,
    )
    .toArray()[0];
  if (entry === null) return [];
  if (last === undefined || last.deleted === 1 || readContent(sql, path, entry.version) === null) {
    return [finding("FILE_WITHOUT_VERSION", `The file ${path} names a version that is not there.`)];
  }
  const same =
    entry.version === last.version && entry.sha256 === last.sha256 && entry.bytes === last.bytes;
  return same ? [] : [finding("ENTRY_MISMATCH", `The file ${path} is not its last version.`)];
}

/** A version names the call in the journal that made it, and is what that call wrote. */
function checkCall(sql: SqlStorage, path: string, version: number): IntegrityFinding[] {
  const row = sql
    .exec<{ seq: number; sha256: string | null; outcome: string | null }>(
      `SELECT v.seq, v.sha256, j.outcome FROM versions v LEFT JOIN journal j
       ON j.session_id = v.session_id AND j.seq = v.seq WHERE v.path = ? AND v.version = ?`,
      path,
      version,
    )
    .toArray()[0];
  if (row === undefined) return [];
  const what = `Version ${version} of ${path}`;
  if (row.outcome === null) {
    return [
      finding(
        "VERSION_WITHOUT_CALL",
        `${what} names the call ${row.seq}, which the journal has not.`,
      ),
    ];
  }
  const outcome = outcomeOf(row.outcome);
  const same =
    outcome?.kind === "file" &&
    outcome.effect.path === path &&
    outcome.effect.version === version &&
    outcome.effect.sha256_after === row.sha256;
  return same
    ? []
    : [finding("VERSION_MISMATCH", `${what} is not what the call ${row.seq} wrote.`)];
}

function outcomeOf(text: string): JournalOutcome | null {
  try {
    return journalOutcomeSchema.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}

/** The content of a version has the hash and the size on record; a deletion has none. */
async function checkContent(
  sql: SqlStorage,
  bucket: R2Bucket,
  tenant: string,
  path: string,
  version: number,
): Promise<IntegrityFinding[]> {
  const stored = readContent(sql, path, version);
  if (stored === null) return [];
  const what = `Version ${version} of ${path}`;
  const { content } = stored;
  if (content === null) {
    // A bucket that does not answer throws: that is no finding, the check has failed.
    const blob = await getBlob(bucket, tenant, stored.sha256);
    return blob.ok
      ? []
      : [finding("CONTENT_MISSING", `The content of ${what} is ${blob.problem}.`)];
  }
  const bytes = typeof content === "string" ? Buffer.from(content, "utf8") : Buffer.from(content);
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  return sha256 === stored.sha256 && bytes.byteLength === stored.bytes
    ? []
    : [finding("CONTENT_MISMATCH", `${what} does not have the content on record.`)];
}

function finding(code: string, message: string): IntegrityFinding {
  return { code, message };
}
