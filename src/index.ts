/**
 * @module
 * The Worker's entry: requests, the cron trigger, and the objects it exports.
 */
import { createApp } from "./app.ts";
import { type Config, loadConfig } from "./config.ts";
import { readiness } from "./ops/health.ts";
import { remindOfEndingKeys } from "./ops/key-expiry.ts";
import { logEvent } from "./ops/log.ts";
import { refreshAll } from "./upstream/catalogue.ts";

export { HubObject } from "./hub/hub-object.ts";
export { ListenerObject } from "./hub/listener-object.ts";
export { SessionObject } from "./session/session-object.ts";
export { WorkspaceObject } from "./workspace/workspace-object.ts";

const app = createApp();

export default {
  fetch: app.fetch,

  /** Every few minutes: says in the logs when a part that calls need does not answer, and refreshes the upstreams. */
  async scheduled(_controller, env) {
    const loaded = loadConfig(env);
    if (loaded.ok) await refreshUpstreams(env, loaded.config);
    await remindOfEndingKeys(env.ARCHIVE_DB, Date.now());
    const { status, checks } = await readiness(env);
    const failed = Object.entries(checks).flatMap(([name, { ok }]) => (ok ? [] : [name]));
    logEvent(status === "ready" ? "info" : "error", "readiness", {
      status,
      failed: failed.join(","),
    });
  },
} satisfies ExportedHandler<Env>;

async function refreshUpstreams(env: Env, config: Config): Promise<void> {
  try {
    await refreshAll(env, config, Date.now());
  } catch (error) {
    logEvent("error", "upstreams_unreadable", { error: String(error) });
  }
}
