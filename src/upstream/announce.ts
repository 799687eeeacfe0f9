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

/**
 * Tells the hubs of all tenants that have upstreams, if the directory is not
 * the one it was. Never throws: who listens also compares versions now and then.
 */
export async function announceSince(env: Env, before: Directory): Promise<void> {
  forgetDirectory();
  try {
    const after = await directoryOf(env);
    const { version } = after;
    if (version === before.version) return;
    const tenants = new Set([...tenantsOf(before), ...tenantsOf(after)]);
    await Promise.all([...tenants].map((tenant) => hubStub(env, tenant).announce(version)));
  } catch (error) {
    logEvent("warn", "hub_not_told", { error: String(error) });
  }
}

function tenantsOf(directory: Directory): string[] {
  return directory.entries().flatMap(({ config }) => config.tenants);
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
    const before = await directoryOf(env);
    await refreshUpstream(env, config, name, Date.now());
    await announceSince(env, before);
  } catch (error) {
    logEvent("error", "refresh_failed", { upstream: name, error: String(error) });
  }
}
