/**
 * @module
 * The end of a session's life in the relational archive. Its records leave once
 * R2 is seen to hold every one of them, never before; under a legal hold they
 * move to the twin table instead, where they are read but no longer searched.
 */
import { logEvent } from "../ops/log.ts";
import { heldSession } from "../session/evidence.ts";
import { recordSystem } from "./alarm.ts";
import { logRetirement } from "./anchoring.ts";
import type { Archive, ArchivedSession } from "./archive.ts";
import { compareSession } from "./compare.ts";
import { isHeld } from "./holds.ts";

export type RetentionOutcome =
  | "retired"
  /** A hold covers it: its records are set aside. */
  | "held"
  /** Its object has not given everything to the sinks yet. */
  | "busy"
  /** R2 does not hold every record, or the archive not what R2 holds. */
  | "not_in_r2";

/** Retires one session whose time is over. Repeating is safe. */
export async function retireSession(
  env: Env,
  archive: Archive,
  row: ArchivedSession,
  now: number,
): Promise<RetentionOutcome> {
  const { tenant, session_id, entries, head } = row;
  if (await isHeld(env.ARCHIVE_DB, tenant, session_id)) {
    await archive.move(session_id, "audit_log_archive");
    return "held";
  }
  if ((await heldSession(env, session_id)) !== null) return "busy";
  const { problems, inSegments, records } = await compareSession(archive, env.BUCKET, row);
  // An earlier attempt may have removed the records and been cut off before the row said so.
  if (!inSegments || (problems.length > 0 && records > 0)) {
    logEvent("error", "retention_refused", { session_id, first: problems[0]?.message ?? null });
    return "not_in_r2";
  }
  await logRetirement(env, { reason: "retention", tenant, session_id, entries, head });
  await recordSystem(env, { action: "archive.retire", tenant, session_id, entries, head });
  await archive.retire(session_id, new Date(now).toISOString());
  return "retired";
}
