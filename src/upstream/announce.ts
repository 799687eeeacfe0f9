/**
 * @module
 * Spreads the news that the directory has changed: to the Hub object of every
 * tenant that is concerned, and from there to all who listen.
 */
import type { Config } from "../config.ts";
import { hubStub } from "../objects.ts";
import { logEvent } from "../ops/log.ts";
import { refreshUpstream } from "./catalogue.ts";
import { type Directory, directoryOf, forgetDirectory } from "./directory.ts";

/** Tells the hubs of some tenants. Best effort: who listens also compares versions now and then. */
async function announce(env: Env, tenants: Iterable<string>): Promise<void> {
  forgetDirectory();
  const { version } = await directoryOf(env);
  const told = await Promise.allSettled(
    [...new Set(tenants)].map((tenant) => hubStub(env, tenant).announce(version)),
  );
  for (const { status } of told) {
    if (status === "rejected") logEvent("warn", "hub_not_told", { version });
  }
}

/**
 * Does what may change the directory, and tells the hubs of the tenants that an
 * upstream is there for, or was; of any upstream when none is named. What cannot
 * be told is found by those who listen.
 */
export async function announcing<T>(
  env: Env,
  name: string | null,
  work: () => Promise<T>,
): Promise<T> {
  const before = await directoryOrNull(env);
  const done = await work();
  forgetDirectory();
  const after = await directoryOrNull(env);
  if (before === null || after === null || before.version === after.version) return done;
  try {
    await announce(env, [...tenantsOf(before, name), ...tenantsOf(after, name)]);
  } catch (error) {
    logEvent("warn", "change_not_announced", { error: String(error) });
  }
  return done;
}

async function directoryOrNull(env: Env): Promise<Directory | null> {
  try {
    return await directoryOf(env);
  } catch (error) {
    logEvent("warn", "directory_unreadable", { error: String(error) });
    return null;
  }
}

/** Refreshes an upstream, and tells those concerned if that changed anything. Never throws. */
export async function refreshAndAnnounce(env: Env, config: Config, name: string): Promise<void> {
  const running = refreshing.get(name);
  if (running !== undefined) {
    // What changed since it began may have been missed.
    running.again = true;
    return running.done;
  }
  const run = { again: false, done: Promise.resolve() };
  run.done = (async () => {
    do {
      run.again = false;
      await refreshOnce(env, config, name);
    } while (run.again);
    refreshing.delete(name);
  })();
  refreshing.set(name, run);
  return run.done;
}

/** The isolate's refreshes under way, by upstream: many sessions may hear of one change. */
const refreshing = new Map<string, { again: boolean; done: Promise<void> }>();

async function refreshOnce(env: Env, config: Config, name: string): Promise<void> {
  try {
    await announcing(env, name, () => refreshUpstream(env, config, name, Date.now()));
  } catch (error) {
    logEvent("error", "refresh_failed", { upstream: name, error: String(error) });
  }
}

function tenantsOf(directory: Directory, name: string | null): readonly string[] {
  if (name !== null) return directory.entry(name)?.config.tenants ?? [];
  return directory.entries().flatMap(({ config }) => config.tenants);
}
