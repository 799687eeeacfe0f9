/**
 * @module
 * Runs the scheduled checks. What one finds is a gauge and a log line each
 * time, and once a day a record on the system's ambient session and an alert.
 */
import type { Config } from "../../config.ts";
import { SYSTEM_PRINCIPAL } from "../../edge/principal.ts";
import { metricsStub } from "../../objects.ts";
import { recordAmbient } from "../../session/ambient.ts";
import { sendAlert } from "../alerts/send.ts";
import type { Alert } from "../alerts/webhooks.ts";
import { logEvent } from "../log.ts";
import { labelsText, type Sample } from "../metrics/series.ts";
import { checkExpiringKeys } from "./expiring-keys.ts";
import { type Check, type CheckName, type Finding, MAX_FINDINGS } from "./finding.ts";
import { checkLog } from "./log.ts";
import { checkLostAlarms } from "./lost-alarms.ts";
import { checkStalledFlushes } from "./stalled-flush.ts";

const CHECKS: Readonly<Record<CheckName, Check>> = {
  stalled_flush: checkStalledFlushes,
  lost_alarm: checkLostAlarms,
  log: checkLog,
  expiring_key: checkExpiringKeys,
};

/** What was found is recorded again after this long, if it is still so, in ms. */
const AGAIN_MS = 86_400_000;

/** Runs every check; one that cannot look says so and keeps the others from nothing. */
export async function runChecks(env: Env, config: Config, now: number): Promise<void> {
  const gauges: Sample[] = [{ metric: "checks_ran_at", labels: "{}", value: now }];
  for (const [name, check] of Object.entries(CHECKS) as [CheckName, Check][]) {
    try {
      const findings = await foundBy(name, () => check(env, config, now));
      if (findings === null) continue;
      gauges.push({
        metric: "mcp_check_findings",
        labels: labelsText("mcp_check_findings", { check: name }),
        value: findings.length,
      });
      await report(env, config, name, findings.slice(0, MAX_FINDINGS));
    } catch (error) {
      logEvent("error", "check_not_reported", { check: name, error: String(error) });
    }
  }
  try {
    await metricsStub(env).setGauges(gauges);
  } catch (error) {
    logEvent("error", "check_gauges_not_set", { error: String(error) });
  }
}

/** What a check finds; that it could not look is a finding too, or its last answer would stand. */
async function foundBy(
  name: CheckName,
  look: () => Promise<Finding[] | null>,
): Promise<Finding[] | null> {
  try {
    return await look();
  } catch (error) {
    logEvent("error", "check_failed", { check: name, error: String(error) });
    const message = "The check could not look; the log line check_failed says why.";
    return [{ check: name, subject: "itself", severity: "warning", message }];
  }
}

async function report(
  env: Env,
  config: Config,
  check: CheckName,
  findings: readonly Finding[],
): Promise<void> {
  const fresh: Finding[] = [];
  for (const finding of findings) {
    const { subject, severity, message } = finding;
    logEvent(severity === "critical" ? "error" : "warn", "check_finding", {
      check,
      subject,
      message,
    });
    const key = `finding ${check} ${subject}`;
    if ((await metricsStub(env).claimAlert(key, AGAIN_MS)) === null) continue;
    fresh.push(finding);
    try {
      await recordFinding(env, finding);
    } catch (error) {
      // What could not be recorded is news again at the next run, and those on call hear of it now.
      await metricsStub(env).releaseAlert(key, AGAIN_MS);
      logEvent("error", "finding_not_recorded", { check, subject, error: String(error) });
    }
  }
  const [first] = fresh;
  if (first === undefined) return;
  const alert: Alert = {
    key: `check ${check}`,
    severity: fresh.some(({ severity }) => severity === "critical") ? "critical" : "warning",
    summary: first.message,
    details: { check, subject: first.subject, findings: fresh.length },
  };
  await sendAlert(env, alert, config);
}

async function recordFinding(
  env: Env,
  { check, subject, severity, message }: Finding,
): Promise<void> {
  await recordAmbient(env, SYSTEM_PRINCIPAL, {
    event: "admin",
    result: "error",
    request_id: crypto.randomUUID(),
    notes: message,
    context: { action: `check.${check}`, subject, severity },
  });
}
