/**
 * @module
 * What must not happen at all, such as a changed record: a log line, a count
 * and an alert, wherever it is noticed.
 */
import { type LogFields, logEvent } from "../log.ts";
import { count, inObject } from "../metrics/collect.ts";
import type { ALARMS } from "../metrics/labels.ts";
import { sendAlert } from "./send.ts";

/** Sounds an alarm beside the work of whoever noticed it. */
export type AlarmBeside = (
  alarm: (typeof ALARMS)[number],
  summary: string,
  fields: LogFields,
) => void;

/** Tells all who watch, and is done when they are told. Never throws. */
export async function soundAlarm(
  env: Env,
  alarm: (typeof ALARMS)[number],
  summary: string,
  fields: LogFields,
): Promise<void> {
  logEvent("alarm", alarm, { ...fields, message: summary });
  // What notices it runs on for longer than the push takes: an object, or the cron trigger's work.
  count(env, inObject, "mcp_alarms_total", { alarm });
  const details = Object.fromEntries(
    Object.entries(fields).flatMap(([name, value]) =>
      value === null || value === undefined
        ? []
        : [[name, typeof value === "number" ? value : String(value)]],
    ),
  );
  await sendAlert(env, { key: alarm, severity: "critical", summary, details });
}
