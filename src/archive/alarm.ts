/**
 * @module
 * What the gateway does and finds on its own is evidence too: records on the
 * ambient session of the gateway itself.
 */
import { type Principal, SYSTEM_PRINCIPAL } from "../edge/principal.ts";
import type { JsonObject } from "../mcp/ijson.ts";
import { logEvent } from "../ops/log.ts";
import { recordAmbient } from "../session/ambient.ts";

export const SYSTEM: Principal = {
  id: SYSTEM_PRINCIPAL,
  tenant: "default",
  role: "operator",
  workspaces: null,
  upstreams: null,
};

export type ArchiveAlarm = {
  /** Where the difference was found: a sink, or the nightly check. */
  readonly found_by: "archive" | "segments" | "log" | "check";
  readonly tenant: string;
  readonly session_id: string;
  /** The first record concerned; 0 for the session as a whole. */
  readonly seq: number;
  readonly message: string;
};

/**
 * Says in the log and on the record that an archive holds something else than
 * it was sent. Never throws: what found it goes on, and has it on its own record.
 */
export async function raiseAlarm(env: Env, alarm: ArchiveAlarm): Promise<void> {
  logEvent("alarm", "archive_conflict", { ...alarm, sink: alarm.found_by });
  try {
    await recordSystem(env, { action: "archive.alarm", ...alarm }, "error");
  } catch (error) {
    logEvent("error", "alarm_not_recorded", { error: String(error), session_id: alarm.session_id });
  }
}

/** Records something that the gateway did to the archive. */
export async function recordSystem(
  env: Env,
  context: JsonObject,
  result: "ok" | "error" = "ok",
): Promise<void> {
  await recordAmbient(env, SYSTEM, {
    event: "admin",
    request_id: crypto.randomUUID(),
    result,
    error_code: result === "ok" ? null : "INTERNAL_ERROR",
    context,
  });
}
