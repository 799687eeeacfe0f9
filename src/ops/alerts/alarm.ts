/**
 * @module
 * What must not happen at all, such as a changed record: a log line, a count
 * and an alert, wherever it is noticed.
 */
import { type LogFields, logEvent } from "../log.ts";
import { count } from "../metrics/collect.ts";
import { sendAlert } from "./send.ts";

/** Raises an alarm; `alarm` is of a closed list, for it is a label. */
export function raiseAlarm(
  env: Env,
  later: (work: Promise<unknown>) => void,
  alarm: "archive_conflict",
  summary: string,
  fields: LogFields,
): void {
  logEvent("alarm", alarm, { ...fields, message: summary });
  count(env, later, "mcp_alarms_total", { alarm });
  const details = Object.fromEntries(
    Object.entries(fields).flatMap(([name, value]) =>
      value === null || value === undefined
        ? []
        : [[name, typeof value === "number" ? value : String(value)]],
    ),
  );
  later(sendAlert(env, { key: alarm, severity: "critical", summary, details }));
}
