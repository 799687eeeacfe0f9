/**
 * @module
 * The Worker's entry: requests, the cron trigger, and the objects it exports.
 */
import { createApp } from "./app.ts";
import { readiness } from "./ops/health.ts";
import { logEvent } from "./ops/log.ts";

export { HubObject } from "./hub/hub-object.ts";
export { ListenerObject } from "./hub/listener-object.ts";
export { SessionObject } from "./session/session-object.ts";
export { WorkspaceObject } from "./workspace/workspace-object.ts";

const app = createApp();

export default {
  fetch: app.fetch,

  /** Every few minutes: says in the logs when a part that calls need does not answer. */
  async scheduled(_controller, env) {
    const { status, checks } = await readiness(env);
    const failed = Object.entries(checks).flatMap(([name, { ok }]) => (ok ? [] : [name]));
    logEvent(status === "ready" ? "info" : "error", "readiness", {
      status,
      failed: failed.join(","),
    });
  },
} satisfies ExportedHandler<Env>;
