/**
 * @module
 * What the gateway finds on its own is evidence too: records on the ambient
 * session of the gateway itself.
 */
import { SYSTEM_PRINCIPAL } from "../edge/principal.ts";
import { soundAlarm } from "../ops/alerts/alarm.ts";
import { logEvent } from "../ops/log.ts";
import { recordAmbient } from "../session/ambient.ts";

export type ArchiveAlarm = {
  /** Where the difference was found: a sink, the nightly check, or retention. */
  readonly found_by: "archive" | "segments" | "log" | "check" | "retention";
  readonly tenant: string;
  readonly session_id: string;
  /** The first record concerned; 0 for the session as a whole. */
  readonly seq: number;
  readonly message: string;
};

/**
 * Says on the record, and to all who watch, that an archive holds something else
 * than it was sent. Never throws: what found it goes on, and has it on its own record.
 */
export async function raiseAlarm(env: Env, alarm: ArchiveAlarm): Promise<void> {
  const { message, ...fields } = alarm;
  await soundAlarm(env, "archive_conflict", message, { ...fields, sink: alarm.found_by });
  try {
    await recordAmbient(env, SYSTEM_PRINCIPAL, {
      event: "admin",
      request_id: crypto.randomUUID(),
      result: "error",
      error_code: "INTERNAL_ERROR",
      context: { action: "archive.alarm", ...alarm },
    });
  } catch (error) {
    logEvent("error", "alarm_not_recorded", { error: String(error), session_id: alarm.session_id });
  }
}
