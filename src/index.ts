/**
 * @module
 * The Worker's entry: requests, the cron trigger, and the objects it exports.
 */
import { createApp } from "./app.ts";
import { loadConfig } from "./config.ts";
import { logEvent } from "./ops/log.ts";
import { runScheduled } from "./ops/scheduled.ts";

export { HubObject } from "./hub/hub-object.ts";
export { ListenerObject } from "./hub/listener-object.ts";
export { LogObject } from "./log/log-object.ts";
export { WitnessObject } from "./log/witness-object.ts";
export { MetricsObject } from "./ops/metrics/metrics-object.ts";
export { SessionObject } from "./session/session-object.ts";
export { WorkspaceObject } from "./workspace/workspace-object.ts";

const app = createApp();

export default {
  fetch: app.fetch,

  /** Every few minutes. A broken configuration is told by the requests that it refuses, and here. */
  async scheduled(_controller, env) {
    const loaded = loadConfig(env);
    if (loaded.ok) return runScheduled(env, loaded.config, Date.now());
    logEvent("error", "not_configured", { message: loaded.message });
  },
} satisfies ExportedHandler<Env>;
