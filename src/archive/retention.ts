/**
 * @module
 * The end of a session's life in the relational archive. Its records leave once
 * R2 is seen to hold every one of them, never before; under a legal hold they
 * move to the twin table instead, where they are read but no longer searched.
 */
import type { Config } from "../config.ts";
import { SYSTEM_PRINCIPAL } from "../edge/principal.ts";
import { recordChange } from "../session/ambient.ts";
import { heldSession } from "../session/evidence.ts";
import { raiseAlarm } from "./alarm.ts";
import { logRetirement } from "./anchoring.ts";
import type { Archive, ArchivedSession } from "./archive.ts";
import { compareSession, copiesOf, missingFrom } from "./compare.ts";
import { isHeld } from "./holds.ts";

export type RetentionOutcome =
  | "retired"
  /** A hold covers it: its records are set aside. */
  | "held"
  /** Its object has not given everything to the sinks yet. */
  | "busy"
  /** The archive, R2 and the log do not hold the same, or not all of it: an alarm. */
  | "refused";

/** Retires one session whose time is over. Repeating is safe. */
export async function retireSession(
  env: Env,
  config: Config,
  archive: Archive,
  row: ArchivedSession,
  now: number,
): Promise<RetentionOutcome> {
  const { tenant, session_id, entries, head } = row;
  const setAside = async (): Promise<boolean> => {
    if (!(await isHeld(env.ARCHIVE_DB, tenant, session_id))) return false;
    await archive.move(session_id, "audit_log_archive");
    return true;
  };
  if (await setAside()) return "held";
  if ((await heldSession(env, session_id)) !== null) return "busy";
  const compared = await compareSession(copiesOf(env, config, archive), row);
  const problem = compared.problems[0] ?? missingFrom(row, compared, now);
  if (problem !== null) {
    await raiseAlarm(env, { found_by: "retention", tenant, session_id, ...problem });
    return "refused";
  }
  // Reading the segments takes time, in which a hold may have come.
  if (await setAside()) return "held";
  const context = { action: "archive.retire", tenant, session_id, entries, head };
  await recordChange(
    env,
    SYSTEM_PRINCIPAL,
    { event: "admin", request_id: crypto.randomUUID(), context },
    async () => {
      // A session that the log never had, one of an import, leaves without a word there.
      if (compared.inLog !== null && head !== null) {
        const reason = "retention";
        await logRetirement(env, { reason, tenant, session_id, seq: entries, hash_chain: head });
      }
      await archive.retire(session_id, new Date(now).toISOString());
    },
    () => ({ result: "ok" }),
  );
  return "retired";
}
