/**
 * @module
 * Recomputes what a workspace claims about itself: that each current content
 * has the hash and size on record, that each version names a change in the
 * journal, and that each plan has the hash it is filed under.
 */
import { createHash } from "node:crypto";
import { planHash } from "../policy/plan.ts";
import { getBlob } from "./blobs.ts";
import { currentFile, readContent } from "./files.ts";
import type { IntegrityFinding, WorkspaceIntegrity } from "./types.ts";

/** Findings past this many only count: one broken disk must not make an endless answer. */
const MAX_FINDINGS = 200;

export async function checkIntegrity(
  sql: SqlStorage,
  bucket: R2Bucket,
  tenant: string,
): Promise<WorkspaceIntegrity> {
  const files: IntegrityFinding[] = [];
  const plans: IntegrityFinding[] = [];
  let checked = 0;
  for (const { path } of sql
    .exec<{ path: string }>("SELECT path FROM files ORDER BY path")
    .toArray()) {
    checked += 1;
    const finding = await checkFile(sql, bucket, tenant, path);
    if (finding !== null) files.push(finding);
  }
  const unjournalled = sql
    .exec<{ path: string; version: number }>(
      `SELECT v.path, v.version FROM versions v LEFT JOIN journal j
       ON j.session_id = v.session_id AND j.seq = v.seq WHERE j.seq IS NULL LIMIT ?`,
      MAX_FINDINGS,
    )
    .toArray();
  for (const row of unjournalled) {
    files.push({
      code: "VERSION_WITHOUT_CALL",
      message: `Version ${row.version} of ${row.path} names no call in the journal.`,
    });
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
    files: { ok: files.length === 0, checked },
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

async function checkFile(
  sql: SqlStorage,
  bucket: R2Bucket,
  tenant: string,
  path: string,
): Promise<IntegrityFinding | null> {
  const stored = readContent(sql, path, null);
  if (stored === null) {
    // Deleted while others were checked.
    if (currentFile(sql, path) === null) return null;
    return {
      code: "FILE_WITHOUT_VERSION",
      message: `The file ${path} names a version that is not there.`,
    };
  }
  const { content } = stored;
  if (content === null) {
    // A bucket that does not answer throws: that is no finding, the check has failed.
    const blob = await getBlob(bucket, tenant, stored.sha256);
    if (blob.ok) return null;
    return { code: "CONTENT_MISSING", message: `The content of ${path} is ${blob.problem}.` };
  }
  const bytes = typeof content === "string" ? Buffer.from(content, "utf8") : Buffer.from(content);
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  return sha256 === stored.sha256 && bytes.byteLength === stored.bytes
    ? null
    : { code: "CONTENT_MISMATCH", message: `The content of ${path} is not what its record says.` };
}
