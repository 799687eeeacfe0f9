/**
 * @module
 * What `/metrics` shows: exact counts from the archive, what isolates have pushed and
 * what objects have said from the Metrics object. Each is a small table that is
 * kept up to date; a scrape looks at no record and no session.
 *
 * A source that does not answer leaves its series out and says so in
 * `mcp_scrape_source_up`: in an outage of one, the others are what is wanted.
 */
import { openArchive } from "../../archive/open.ts";
import { logStub, metricsStub } from "../../objects.ts";
import { SINKS } from "../../session/store.ts";
import { directoryOf } from "../../upstream/directory.ts";
import { upSince } from "../deployment.ts";
import { endingKeys } from "../key-expiry.ts";
import { freshSwitches } from "../kill-switches.ts";
import { logEvent } from "../log.ts";
import { within } from "../within.ts";
import { exposition } from "./exposition.ts";
import { ALARMS, type SOURCES } from "./labels.ts";
import type { Sample } from "./series.ts";

/** What a source may take, in ms: Prometheus itself gives up after ten seconds. */
const PATIENCE_MS = 5_000;

/** Gauges that are stored as a time (Unix ms), and shown as how long ago that is. */
const AGES: Readonly<Record<string, string>> = {
  checks_ran_at: "mcp_check_age_seconds",
};

type Source = (env: Env, now: number) => Promise<Sample[]>;

const READERS: Readonly<Record<(typeof SOURCES)[number], Source>> = {
  archive: (env) => openArchive(env).counts(),
  isolates: isolateSamples,
  upstreams: upstreamSamples,
  kill_switches: async (env) => [
    gauge("mcp_kill_switches", (await freshSwitches(env)).switches.length),
  ],
  keys: keySamples,
  log: logSamples,
};

/** The exposition as of now, or null when no source answers. */
export async function scrape(env: Env, now: number): Promise<string | null> {
  const answers = await Promise.all(
    Object.entries(READERS).map(async ([source, read]) => ({
      source,
      samples: await answered(source, () => read(env, now)),
    })),
  );
  if (answers.every(({ samples }) => samples === null)) return null;
  const since = upSince();
  return exposition([
    ...answers.flatMap(({ source, samples }) => [
      gauge("mcp_scrape_source_up", samples === null ? 0 : 1, { source }),
      ...(samples ?? []),
    ]),
    ...(since === null ? [] : [gauge("mcp_uptime_seconds", Math.max(0, (now - since) / 1000))]),
  ]);
}

async function answered(source: string, read: () => Promise<Sample[]>): Promise<Sample[] | null> {
  try {
    return await within(PATIENCE_MS, read());
  } catch (error) {
    logEvent("error", "source_not_scraped", { source, error: String(error) });
    return null;
  }
}

/** What isolates have counted, and what objects say of themselves. */
async function isolateSamples(env: Env, now: number): Promise<Sample[]> {
  const { counts, gauges, stalled } = await metricsStub(env).snapshot();
  const sinks = new Set<string>([...SINKS, ...stalled.map(({ sink }) => sink)]);
  return [
    ...counts,
    ...zeros(counts, "mcp_alarms_total", "alarm", ALARMS),
    ...zeros(counts, "mcp_flush_failures_total", "sink", SINKS),
    ...gauges.map((sample) => aged(sample, now)),
    ...[...sinks].map((sink) => {
      const since = stalled.find((row) => row.sink === sink)?.since ?? now;
      return gauge("mcp_flush_lag_seconds", Math.max(0, (now - since) / 1000), { sink });
    }),
  ];
}

/** A series that begins at 1 has not risen, as Prometheus sees it: what must be noticed the first time is there from 0. */
function zeros(
  counts: readonly Sample[],
  metric: string,
  label: string,
  values: readonly string[],
): Sample[] {
  return values
    .map((value) => gauge(metric, 0, { [label]: value }))
    .filter(({ labels }) => !counts.some((own) => own.metric === metric && own.labels === labels));
}

async function upstreamSamples(env: Env): Promise<Sample[]> {
  return (await directoryOf(env))
    .entries()
    .map(({ config, available }) =>
      gauge("mcp_upstream_up", available ? 1 : 0, { upstream: config.name }),
    );
}

/** The next key to end of each role: they come in the order of their ends. */
async function keySamples(env: Env, now: number): Promise<Sample[]> {
  const ending = await endingKeys(env.ARCHIVE_DB, now);
  return [...Map.groupBy(ending, ({ role }) => role)].map(([role, [next]]) =>
    gauge("mcp_key_expires_in_seconds", next?.expires_in ?? 0, { role }),
  );
}

async function logSamples(env: Env, now: number): Promise<Sample[]> {
  const { size, published_at } = await logStub(env).status();
  if (published_at === null) return [];
  const age = Math.max(0, (now - Date.parse(published_at)) / 1000);
  return [gauge("mcp_log_size", size), gauge("mcp_log_checkpoint_age_seconds", age)];
}

function gauge(metric: string, value: number, labels: Record<string, string> = {}): Sample {
  return { metric, labels: JSON.stringify(labels), value };
}

function aged(sample: Sample, now: number): Sample {
  const metric = AGES[sample.metric];
  if (metric === undefined) return sample;
  return { ...sample, metric, value: Math.max(0, (now - sample.value) / 1000) };
}
