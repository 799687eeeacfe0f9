/**
 * @module
 * What `/metrics` shows: exact counts from D1, what isolates have pushed and
 * what objects have said from the Metrics object. Each is a small table that is
 * kept up to date; a scrape looks at no record and no session.
 */
import * as z from "zod";
import { metricsStub } from "../../objects.ts";
import { directoryOf } from "../../upstream/directory.ts";
import { upSince } from "../deployment.ts";
import { freshSwitches } from "../kill-switches.ts";
import { exposition } from "./exposition.ts";
import type { Sample } from "./series.ts";

/** Shown whether a flush to them is overdue or not. */
const SINKS = ["archive", "segments"] as const;

const storedCounts = z.array(
  z.object({ metric: z.string(), labels: z.string(), value: z.number() }),
);

/** Gauges that are stored as a time (Unix ms), and shown as how long ago that is. */
const AGES: Readonly<Record<string, string>> = {
  log_checkpoint_at: "mcp_log_checkpoint_age_seconds",
  checks_ran_at: "mcp_check_age_seconds",
};

/** The exposition as of now. Throws when D1 or the Metrics object does not answer: half a scrape would look like a fall. */
export async function scrape(env: Env, now: number): Promise<string> {
  const [counts, snapshot, directory, switches] = await Promise.all([
    env.ARCHIVE_DB.prepare("SELECT metric, labels, value FROM metric_counts").all(),
    metricsStub(env).snapshot(),
    directoryOf(env),
    freshSwitches(env),
  ]);
  const since = upSince();
  return exposition([
    ...storedCounts.parse(counts.results),
    ...snapshot.counts,
    ...snapshot.gauges.map((gauge) => aged(gauge, now)),
    ...[...new Set([...SINKS, ...snapshot.stalled.map(({ sink }) => sink)])].map((sink) => {
      const stalled = snapshot.stalled.find((row) => row.sink === sink);
      const seconds = stalled === undefined ? 0 : Math.max(0, (now - stalled.since) / 1000);
      return gauge("mcp_flush_lag_seconds", seconds, { sink });
    }),
    ...directory
      .entries()
      .map(({ config, available }) =>
        gauge("mcp_upstream_up", available ? 1 : 0, { upstream: config.name }),
      ),
    gauge("mcp_kill_switches", switches.switches.length),
    ...(since === null ? [] : [gauge("mcp_uptime_seconds", Math.max(0, (now - since) / 1000))]),
  ]);
}

function gauge(metric: string, value: number, labels: Record<string, string> = {}): Sample {
  return { metric, labels: JSON.stringify(labels), value };
}

function aged(sample: Sample, now: number): Sample {
  const metric = AGES[sample.metric];
  if (metric === undefined) return sample;
  return { ...sample, metric, value: Math.max(0, (now - sample.value) / 1000) };
}
