/**
 * @module
 * Whether leaves wait too long for a checkpoint of the transparency log. The
 * Log object says since when they do, as the gauge `log_pending_since` (Unix
 * ms, 0 while none waits); without a log there is nothing to look at.
 */
import { metricsStub } from "../../objects.ts";
import type { Check } from "./finding.ts";

/** How long a leaf may wait, in ms; a commit is due within seconds. */
const OVERDUE_MS = 10 * 60_000;

export const checkLogAge: Check = async (env, _config, now) => {
  const { gauges } = await metricsStub(env).snapshot();
  const since = gauges.find(({ metric }) => metric === "log_pending_since")?.value ?? 0;
  if (since === 0 || now - since < OVERDUE_MS) return [];
  return [
    {
      check: "log_age",
      subject: "log",
      severity: "critical",
      message: `Leaves have waited for a checkpoint since ${new Date(since).toISOString()}. See why the log does not commit.`,
    },
  ];
};
