/**
 * @module
 * What `/metrics` shows: exact counts from the archive, what isolates have pushed and
 * what objects have said from the Metrics object. Each is a small table that is
 * kept up to date; a scrape looks at no record and no session.
 */
import { openArchive } from "../../archive/open.ts";
import { logStub, metricsStub } from "../../objects.ts";
import { SINKS } from "../../session/store.ts";
import { directoryOf } from "../../upstream/directory.ts";
import { upSince } from "../deployment.ts";
import { endingKeys } from "../key-expiry.ts";
import { freshSwitches } from "../kill-switches.ts";
import { logEvent } from "../log.ts";
import { exposition } from "./exposition.ts";
import type { Sample } from "./series.ts";

/** Shown whether a flush to them is overdue or not. */
const SHOWN_SINKS: readonly string[] = SINKS;

/** Gauges that are stored as a time (Unix ms), and shown as how long ago that is. */
const AGES: Readonly<Record<string, string>> = {
  checks_ran_at: "mcp_check_age_seconds",
};

/** The exposition as of now. Throws when the archive, D1 or the Metrics object does not answer: half a scrape would look like a fall. */
export async function scrape(env: Env, now: number): Promise<string> {
  const [counts, snapshot, directory, switches, log, ending] = await Promise.all([
    openArchive(env).counts(),
    metricsStub(env).snapshot(),
    directoryOf(env),
    freshSwitches(env),
    logSamples(env, now),
    endingKeys(env.ARCHIVE_DB, now),
  ]);
  const since = upSince();
  return exposition([
    ...counts,
    ...snapshot.counts,
    ...snapshot.gauges.map((gauge) => aged(gauge, now)),
    ...[...new Set([...SHOWN_SINKS, ...snapshot.stalled.map(({ sink }) => sink)])].map((sink) => {
      const stalled = snapshot.stalled.find((row) => row.sink === sink);
      const seconds = stalled === undefined ? 0 : Math.max(0, (now - stalled.since) / 1000);
      return gauge("mcp_flush_lag_seconds", seconds, { sink });
    }),
    ...directory
      .entries()
      .map(({ config, available }) =>
        gauge("mcp_upstream_up", available ? 1 : 0, { upstream: config.name }),
      ),
    ...log,
    // The next one of each role: they come in the order of their ends.
    ...[...Map.groupBy(ending, ({ role }) => role)].map(([role, [next]]) =>
      gauge("mcp_key_expires_in_seconds", next?.expires_in ?? 0, { role }),
    ),
    gauge("mcp_kill_switches", switches.switches.length),
    ...(since === null ? [] : [gauge("mcp_uptime_seconds", Math.max(0, (now - since) / 1000))]),
  ]);
}

/** What the log says of itself; without an answer its gauges are absent, for calls go on without it. */
async function logSamples(env: Env, now: number): Promise<Sample[]> {
  try {
    const { size, published_at } = await logStub(env).status();
    if (published_at === null) return [];
    const age = Math.max(0, (now - Date.parse(published_at)) / 1000);
    return [gauge("mcp_log_size", size), gauge("mcp_log_checkpoint_age_seconds", age)];
  } catch (error) {
    logEvent("warn", "log_not_measured", { error: String(error) });
    return [];
  }
}

function gauge(metric: string, value: number, labels: Record<string, string> = {}): Sample {
  return { metric, labels: JSON.stringify(labels), value };
}

function aged(sample: Sample, now: number): Sample {
  const metric = AGES[sample.metric];
  if (metric === undefined) return sample;
  return { ...sample, metric, value: Math.max(0, (now - sample.value) / 1000) };
}
