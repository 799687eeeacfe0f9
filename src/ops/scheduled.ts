/**
 * @module
 * What the cron trigger does, every few minutes: refresh the upstreams, run the
 * checks, clear what was kept long enough, ask every part that calls need, and
 * do the next slice of the day's work on the archive. One that fails keeps no
 * other from its turn.
 */
import { runDaily } from "../archive/daily.ts";
import type { Config } from "../config.ts";
import { announcing } from "../upstream/announce.ts";
import { refreshAll } from "../upstream/catalogue.ts";
import { sendAlert, sendUnsent } from "./alerts/send.ts";
import type { Alert } from "./alerts/webhooks.ts";
import { runChecks } from "./checks/run.ts";
import { deleteOldConnections } from "./connections/log.ts";
import { readiness } from "./health.ts";
import { remindOfEndingKeys } from "./key-expiry.ts";
import { logEvent } from "./log.ts";

/** One run. Never throws: a cron trigger is not run again before its next time. */
export async function runScheduled(env: Env, config: Config, now: number): Promise<void> {
  await step("upstreams", () => announcing(env, null, () => refreshAll(env, config, now)));
  await step("checks", () => runChecks(env, config, now));
  await step("keys", () => remindOfEndingKeys(env.ARCHIVE_DB, now));
  await step("connections", async () => {
    const deleted = await deleteOldConnections(env.ARCHIVE_DB, now);
    if (deleted > 0) logEvent("info", "connections_deleted", { rows: deleted });
  });
  await step("readiness", () => reportReadiness(env, config));
  // After those that may have news of the same kind, which then goes out instead; not what failed in this run.
  await step("unsent", () => sendUnsent(env, config, now));
  // Last, for it takes as long as it may.
  await step("daily", () => runDaily(env, config, now));
}

async function step(name: string, work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    logEvent("error", "scheduled_step_failed", { step: name, error: String(error) });
  }
}

/** Says in the logs, and to those on call, when a part that calls need does not answer. */
async function reportReadiness(env: Env, config: Config): Promise<void> {
  const { status, checks } = await readiness(env);
  const failed = Object.entries(checks).flatMap(([name, { ok }]) => (ok ? [] : [name]));
  const parts = failed.join(",");
  logEvent(status === "ready" ? "info" : "error", "readiness", { status, failed: parts });
  if (status === "ready") return;
  const alert: Alert = {
    key: "unready",
    severity: "critical",
    summary: `The gateway is not ready: ${parts} does not answer as it should.`,
    details: { failed: parts },
  };
  await sendAlert(env, alert, config);
}
