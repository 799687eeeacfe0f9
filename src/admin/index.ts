/**
 * @module
 * The operator's API: every route in one table, from which the router and the
 * OpenAPI document are made.
 */
import { type Context, Hono } from "hono";
import type { AppEnv } from "../app.ts";
import { BOOKMARK_HEADER, readingArchive } from "../archive/reading.ts";
import { sha256Hex } from "../audit/hash-node.ts";
import { requireAddress } from "../edge/address.ts";
import { admitKey } from "../edge/admission.ts";
import { digestsEqual } from "../edge/api-key.ts";
import { credentialOf } from "../edge/authenticate.ts";
import { parseJsonBody, readBody } from "../edge/body.ts";
import { BOOTSTRAP_PRINCIPAL, type Principal } from "../edge/principal.ts";
import { HttpRefusal } from "../edge/refusal.ts";
import type { JsonObject } from "../mcp/ijson.ts";
import {
  backfillArchive,
  exportDay,
  exportSessions,
  importIntoArchive,
  rebuildArchive,
  runDailyTask,
  verifyStored,
} from "./archive.ts";
import { exportSession, queryAudit } from "./audit.ts";
import { bindCertificate, listCertificates, unbindCertificate } from "./client-certificates.ts";
import { listConnections } from "./connections.ts";
import { erase } from "./erasure.ts";
import { bundleSession, verifySession } from "./evidence.ts";
import { fileContent, fileVersions } from "./files.ts";
import { createKey, listKeys, revokeKey, rotateKey } from "./keys.ts";
import { engageKillSwitch, liftKillSwitch, listKillSwitches } from "./kill-switches.ts";
import { createLegalHold, deleteLegalHold, listLegalHolds } from "./legal-holds.ts";
import { openApiDocument } from "./openapi.ts";
import { approvePlan, listPlans, revokePlan, showPlan } from "./plans.ts";
import type { AdminRoute } from "./route.ts";
import { endSession, listSessions } from "./sessions.ts";
import {
  approveTool,
  changeUpstream,
  createUpstream,
  listDefinitions,
  listUpstreams,
  refresh,
  removeUpstream,
  showUpstream,
} from "./upstreams.ts";
import { addWitnessedLog, listWitnessedLogs, removeWitnessedLog } from "./witnessed-logs.ts";

const ROUTES: readonly AdminRoute[] = [
  createKey,
  listKeys,
  rotateKey,
  revokeKey,
  listCertificates,
  bindCertificate,
  unbindCertificate,
  listSessions,
  endSession,
  queryAudit,
  exportSession,
  verifySession,
  erase,
  listLegalHolds,
  createLegalHold,
  deleteLegalHold,
  runDailyTask,
  backfillArchive,
  rebuildArchive,
  importIntoArchive,
  verifyStored,
  exportSessions,
  exportDay,
  bundleSession,
  listPlans,
  showPlan,
  approvePlan,
  revokePlan,
  listConnections,
  listKillSwitches,
  engageKillSwitch,
  liftKillSwitch,
  fileVersions,
  fileContent,
  listUpstreams,
  createUpstream,
  showUpstream,
  changeUpstream,
  removeUpstream,
  refresh,
  listDefinitions,
  approveTool,
  listWitnessedLogs,
  addWitnessedLog,
  removeWitnessedLog,
];

/** The router below `/admin`. */
export function adminApp(): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get("/openapi.json", async (c) => {
    notBootstrap(await operatorOf(c));
    return c.json(openApiDocument(ROUTES));
  });
  for (const route of ROUTES) {
    app.on(route.method, route.path, async (c) => {
      const operator = await operatorOf(c);
      if (!route.bootstrap) notBootstrap(operator);
      const sent = await bodyOf(c, route);
      const reading = readingArchive(c.env, c.req.header(BOOKMARK_HEADER) ?? null);
      const response = await route.handle({
        env: c.env,
        config: c.get("config"),
        operator,
        requestId: c.get("requestId"),
        now: Date.now(),
        archive: reading.archive,
        sent,
        raw: { params: c.req.param(), query: queryOf(c), body: sent },
      });
      const bookmark = reading.bookmark();
      if (bookmark !== null) response.headers.set(BOOKMARK_HEADER, bookmark);
      return response;
    });
  }
  return app;
}

/** Throws `HttpRefusal` 403 for `ADMIN_TOKEN`, which only bootstraps. */
export function notBootstrap(operator: Principal): void {
  if (operator.id !== BOOTSTRAP_PRINCIPAL) return;
  throw new HttpRefusal(
    403,
    "FORBIDDEN",
    "ADMIN_TOKEN only creates, lists and revokes operator keys. Use an operator's key here.",
  );
}

/** The operator behind a request: an operator's key, or `ADMIN_TOKEN` as `admin:bootstrap`. */
export async function operatorOf(c: Context<AppEnv>): Promise<Principal> {
  const config = c.get("config");
  requireAddress(config.allowedIps, c.req.raw.headers);
  const credential = credentialOf(c.req.raw.headers);
  const bootstrap = digestsEqual(sha256Hex(credential), sha256Hex(config.adminToken));
  const principal: Principal = bootstrap
    ? {
        id: BOOTSTRAP_PRINCIPAL,
        tenant: "default",
        role: "operator",
        workspaces: null,
        upstreams: null,
      }
    : (
        await admitKey(
          {
            request: c.req.raw,
            env: c.env,
            config,
            waitUntil: (work) => c.executionCtx.waitUntil(work),
          },
          credential,
          Date.now(),
        )
      ).principal;
  c.get("note")({ principal: principal.id, tenant: principal.tenant, role: principal.role });
  if (principal.role !== "operator") {
    throw new HttpRefusal(403, "FORBIDDEN", "Only an operator may use the admin API.");
  }
  return principal;
}

/** The body of a changing call; none is the same as an empty object. */
async function bodyOf(c: Context<AppEnv>, route: AdminRoute): Promise<JsonObject> {
  // A body may be there and empty: proxies forward one even for DELETE.
  const bytes = await readBody(c.req.raw, c.get("config").maxBodyBytes);
  if (bytes.byteLength === 0) return {};
  if (route.body === null) {
    throw new HttpRefusal(400, "INVALID_ARGUMENT", "This call takes no body.");
  }
  const body = parseJsonBody(c.req.raw, bytes);
  if (typeof body === "object" && body !== null && !Array.isArray(body)) return body;
  throw new HttpRefusal(400, "INVALID_ARGUMENT", "The body must be a JSON object.");
}

/** Query parameters; one that is given twice is refused rather than guessed at. */
function queryOf(c: Context<AppEnv>): Record<string, string> {
  const query: Record<string, string> = {};
  for (const [name, values] of Object.entries(c.req.queries())) {
    const [value] = values;
    if (values.length > 1 || value === undefined) {
      throw new HttpRefusal(400, "INVALID_ARGUMENT", `The parameter ${name} is given twice.`);
    }
    query[name] = value;
  }
  return query;
}
