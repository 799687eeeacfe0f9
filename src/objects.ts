/**
 * @module
 * Where objects are named: every stub of a session or a workspace comes from
 * here, so that the jurisdiction of a deployment cannot be forgotten in one place.
 */
import { requireConfig } from "./config.ts";

/** The Session object of a session id (minted or ambient; check the id first). */
export function sessionStub(env: Env, sessionId: string) {
  const { jurisdiction } = requireConfig(env);
  const namespace = jurisdiction === null ? env.SESSION : env.SESSION.jurisdiction(jurisdiction);
  return namespace.get(namespace.idFromName(sessionId));
}

/** The Workspace object of (tenant, root). Neither may hold a line feed. */
export function workspaceStub(env: Env, tenant: string, root: string) {
  const { jurisdiction } = requireConfig(env);
  const namespace =
    jurisdiction === null ? env.WORKSPACE : env.WORKSPACE.jurisdiction(jurisdiction);
  return namespace.get(namespace.idFromName(`${tenant}\n${root}`));
}

/** The Hub object of a tenant. */
export function hubStub(env: Env, tenant: string) {
  const { jurisdiction } = requireConfig(env);
  const namespace = jurisdiction === null ? env.HUB : env.HUB.jurisdiction(jurisdiction);
  return namespace.get(namespace.idFromName(tenant));
}

/** The one Metrics object of the deployment. */
export function metricsStub(env: Env) {
  const { jurisdiction } = requireConfig(env);
  const namespace = jurisdiction === null ? env.METRICS : env.METRICS.jurisdiction(jurisdiction);
  return namespace.get(namespace.idFromName("metrics"));
}

/** A Listener object of its own, for one stream. */
export function listenerStub(env: Env) {
  const { jurisdiction } = requireConfig(env);
  const namespace = jurisdiction === null ? env.LISTENER : env.LISTENER.jurisdiction(jurisdiction);
  return namespace.get(namespace.newUniqueId());
}

/** The Log object, one for the deployment. */
export function logStub(env: Env) {
  const { jurisdiction } = requireConfig(env);
  const namespace = jurisdiction === null ? env.LOG : env.LOG.jurisdiction(jurisdiction);
  return namespace.get(namespace.idFromName("log"));
}

/** The object that remembers what this gateway, as a witness, has cosigned of a log. Check that it is registered first. */
export function witnessStub(env: Env, origin: string) {
  const { jurisdiction } = requireConfig(env);
  const namespace = jurisdiction === null ? env.WITNESS : env.WITNESS.jurisdiction(jurisdiction);
  return namespace.get(namespace.idFromName(origin));
}
