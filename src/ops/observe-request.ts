/**
 * @module
 * What a request leaves behind for those who watch the gateway: its counts, its
 * data point, and a line of the connection log where it was refused or new.
 * All of it is written after the response, and none of it can fail a request.
 */
import { writePoint } from "./analytics.ts";
import { type Connection, coloOf, originOf, refusalReason } from "./connections/connection.ts";
import { isFirstThisHour } from "./connections/first-seen.ts";
import { logConnection } from "./connections/log.ts";
import { type LogFields, logEvent } from "./log.ts";
import { count, observe } from "./metrics/collect.ts";
import { eraLabel, methodLabel, reasonLabel, roleLabel, statusLabel } from "./metrics/labels.ts";

export type ObservedRequest = {
  readonly request: Request;
  readonly requestId: string;
  /** The route, not the path. */
  readonly route: string;
  readonly status: number;
  /** Unix ms. */
  readonly startedAt: number;
  /** What its log line says of it. */
  readonly fields: LogFields;
};

/** Statuses that refuse a connection; what fails later is in the audit. */
const REFUSED = new Set([401, 403, 421, 429]);
const AUTH_FAILED = new Set([401, 403]);

/** Notes a request that has been answered. Never throws. */
export function observeRequest(
  env: Env,
  later: (work: Promise<unknown>) => void,
  seen: ObservedRequest,
): void {
  try {
    const now = Date.now();
    const facts = factsOf(seen);
    if (seen.route === "/mcp") {
      const { method, role, era } = facts;
      const status = statusLabel(seen.status);
      count(env, later, "mcp_requests_total", { role, method, era, status });
      observe(env, later, "mcp_request_duration_seconds", {}, now - seen.startedAt);
    }
    if (AUTH_FAILED.has(seen.status)) {
      count(env, later, "mcp_auth_failures_total", { reason: reasonLabel(facts.errorCode) });
    }
    const connection = connectionOf(seen, facts, now);
    if (connection !== null) logConnection(env, connection, now, later);
    writePoint(env, () => pointOf(seen, facts, now));
  } catch (error) {
    logEvent("warn", "request_not_observed", { error: String(error) });
  }
}

type Facts = {
  readonly principal: string | null;
  readonly tenant: string | null;
  readonly role: string;
  readonly method: string;
  readonly era: string;
  readonly tool: string | null;
  readonly errorCode: string | null;
};

function factsOf({ request, route, fields }: ObservedRequest): Facts {
  const httpMethod = request.method === "POST" || route !== "/mcp" ? null : request.method;
  return {
    principal: text(fields.principal),
    tenant: text(fields.tenant),
    role: roleLabel(text(fields.role)),
    method: methodLabel(text(fields.mcp_method) ?? httpMethod),
    // Only the 2025 era has requests of another HTTP method.
    era: eraLabel(text(fields.era) ?? (httpMethod === null ? null : "2025")),
    tool: text(fields.tool),
    errorCode: text(fields.error_code),
  };
}

function pointOf(
  { request, route, status, startedAt }: ObservedRequest,
  facts: Facts,
  now: number,
) {
  const { tenant, method, role, era, tool, errorCode } = facts;
  const colo = coloOf(request);
  const durationMs = now - startedAt;
  return { tenant, route, method, role, era, tool, errorCode, colo, status, durationMs };
}

/** The line of the connection log that a request is worth, if it is. */
function connectionOf(seen: ObservedRequest, facts: Facts, now: number): Connection | null {
  const refused = REFUSED.has(seen.status);
  const reason = refused
    ? refusalReason(facts.errorCode, seen.status)
    : newnessOf(seen, facts, now);
  if (reason === null) return null;
  return {
    at: new Date(now).toISOString(),
    outcome: refused ? "refused" : "accepted",
    reason,
    status: seen.status,
    principal: facts.principal,
    ...originOf(seen.request),
    request_id: seen.requestId,
  };
}

/** What makes a request that was let in a new connection; null for one of many. */
function newnessOf({ status }: ObservedRequest, facts: Facts, now: number): string | null {
  const { principal, method, tool, era, errorCode } = facts;
  if (principal === null) return null;
  const isFirst = isFirstThisHour(principal, now);
  if (status === 200 && method === "initialize") return "initialize";
  const begins = era === "2026" && tool === "begin_session" && errorCode === null;
  if (status === 200 && begins) return "begin_session";
  return isFirst ? "first_request" : null;
}

function text(value: LogFields[string]): string | null {
  return typeof value === "string" ? value : null;
}
