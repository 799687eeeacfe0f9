/**
 * @module
 * Every route of the gateway on one page, and what happens around each: the
 * guard before it, one log line and the common headers after it.
 */
import { type Context, Hono } from "hono";
import { adminApp, notBootstrap, operatorOf } from "./admin/index.ts";
import { sha256Hex } from "./audit/hash-node.ts";
import { type Config, loadConfig } from "./config.ts";
import { requireAddress } from "./edge/address.ts";
import { digestsEqual } from "./edge/api-key.ts";
import { credentialOf } from "./edge/authenticate.ts";
import { DOOR, type Door } from "./edge/door.ts";
import { finishResponse } from "./edge/guard.ts";
import { deleteMcp, getMcp } from "./edge/mcp-2025.ts";
import { type McpRequest, methodNotAllowed } from "./edge/mcp-answer.ts";
import { postMcp } from "./edge/mcp-endpoint.ts";
import { challengeOf, resourceMetadata } from "./edge/protected-resource.ts";
import { HttpRefusal, refusalResponse } from "./edge/refusal.ts";
import { logCheckpoint, logTile, logVkeys } from "./log/log-routes.ts";
import { addCheckpoint, witnessVkeys } from "./log/witness-routes.ts";
import { checkDeployment, learnDeployment, upSince } from "./ops/deployment.ts";
import { health, readiness } from "./ops/health.ts";
import { type LogFields, logEvent } from "./ops/log.ts";
import { EXPOSITION_TYPE } from "./ops/metrics/exposition.ts";
import { scrape } from "./ops/metrics/scrape.ts";
import { sharedAnswer } from "./ops/shared-answer.ts";
import { concerning, type SwitchSet, stoppedBy } from "./policy/kill-switch.ts";

export type AppEnv = {
  Bindings: Env;
  Variables: {
    requestId: string;
    config: Config;
    // Read with `get`: `c.var` copies them all at every access.
    /** Adds fields to the request's log line. */
    note: (fields: LogFields) => void;
  };
};

/** Longest text of a caller's in a log line. */
const MAX_LOGGED_TEXT = 128;

/** Routes that answer even while the configuration is broken: they say what is wrong. */
const ALWAYS = new Set(["/health", "/health/ready"]);

/** Where clients find out who issues tokens for this gateway (RFC 9728). */
const METADATA_PATH = "/.well-known/oauth-protected-resource";

/** Readiness asks every store and the log, and anybody may ask for it. */
const sharedReadiness = sharedAnswer({ freshMs: 1_000, patienceMs: 10_000 }, readiness);

/** The router. The benchmark gives it another door, to measure what the guard costs. */
export function createApp(door: Door = DOOR): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.use(async (c, next) => {
    const start = Date.now();
    const requestId = crypto.randomUUID();
    let fields: LogFields = {};
    c.set("requestId", requestId);
    c.set("note", (more) => {
      fields = { ...fields, ...more };
    });
    const loaded = loadConfig(c.env);
    if (loaded.ok) c.set("config", loaded.config);
    const early = loaded.ok ? guarded(c, door, loaded.config) : null;
    if (early !== null) c.res = early;
    else if (!loaded.ok && !ALWAYS.has(c.req.path)) c.res = broken(c, loaded.message);
    else await next();
    finishResponse(c.res, c.req.raw, loaded.ok ? loaded.config : null, requestId);
    if (loaded.ok) {
      door.observe(c.env, (work) => c.executionCtx.waitUntil(work), {
        request: c.req.raw,
        requestId,
        route: routeOf(c.req.path),
        status: c.res.status,
        startedAt: start,
        fields,
      });
    }
    logEvent("info", "request", {
      request_id: requestId,
      method: c.req.method,
      path: routeOf(c.req.path),
      status: c.res.status,
      duration_ms: Date.now() - start,
      trace_id: traceId(c.req.raw.headers),
      ...fields,
    });
  });

  app.get("/health", (c) => {
    // Once an isolate, behind the answer: since when the deployment has been up.
    if (upSince() === null) c.executionCtx.waitUntil(learnDeployment(c.env));
    return c.json(health(Date.now()));
  });
  app.get("/health/ready", async (c) => {
    const answer = await sharedReadiness(c.env);
    return c.json(answer, answer.status === "ready" ? 200 : 503);
  });

  app.get("/metrics", fitDeployment, async (c) => {
    await mayScrape(c);
    const exposition = await scrape(c.env, Date.now());
    if (exposition !== null) return c.body(exposition, 200, { "content-type": EXPOSITION_TYPE });
    throw new HttpRefusal(503, "OVERLOADED", "No source of the metrics answers. Try again.");
  });

  app.use("/mcp", fitDeployment);
  app.post("/mcp", async (c) => postMcp(await mcpRequest(c, door)));
  app.get("/mcp", async (c) => {
    // HEAD comes here too, and would open a stream that nobody reads.
    if (c.req.method !== "GET") throw methodNotAllowed();
    return getMcp(await mcpRequest(c, door));
  });
  app.delete("/mcp", async (c) => deleteMcp(await mcpRequest(c, door)));
  app.all("/mcp", () => {
    throw methodNotAllowed();
  });

  app.get("/log/checkpoint", async (c) => (await logCheckpoint(c.env)) ?? c.notFound());
  app.get("/log/vkey", (c) => logVkeys(c.env));
  app.get("/log/tile/*", async (c) => {
    const path = c.req.path.slice("/log/".length);
    return (await logTile(c.env, c.req.raw, path)) ?? c.notFound();
  });

  app.use("/witness/*", fitDeployment);
  app.post("/witness/add-checkpoint", (c) => addCheckpoint(c.env, c.req.raw));
  app.get("/witness/vkey", (c) => witnessVkeys(c.get("config")));

  app.use("/admin/*", fitDeployment);
  app.route("/admin", adminApp());

  app.get(METADATA_PATH, (c) => metadata(c, ""));
  app.get(`${METADATA_PATH}/mcp`, (c) => metadata(c, "/mcp"));

  app.notFound((c) =>
    refusalResponse(
      new HttpRefusal(404, "NOT_FOUND", "There is nothing here."),
      false,
      c.get("requestId"),
    ),
  );

  app.onError((error, c) => {
    const refusal = error instanceof HttpRefusal ? error : unexpected(c, error);
    c.get("note")({ error_code: refusal.code });
    const onMcp = c.req.path === "/mcp";
    const response = refusalResponse(refusal, onMcp, c.get("requestId"));
    const challenge = onMcp ? challengeOf(refusal, c.get("config"), c.req.raw) : null;
    if (challenge !== null) response.headers.set("www-authenticate", challenge);
    return response;
  });

  return app;
}

function metadata(c: Context<AppEnv>, path: "" | "/mcp"): Response | Promise<Response> {
  return resourceMetadata(c.get("config"), c.req.raw, path) ?? c.notFound();
}

function guarded(c: Context<AppEnv>, door: Door, config: Config): Response | null {
  try {
    return door.guard(c.req.raw, config);
  } catch (error) {
    if (!(error instanceof HttpRefusal)) throw error;
    c.get("note")({ error_code: error.code });
    return refusalResponse(error, c.req.path === "/mcp", c.get("requestId"));
  }
}

function broken(c: Context<AppEnv>, message: string): Response {
  return refusalResponse(
    new HttpRefusal(503, "INTERNAL_ERROR", `The gateway is not configured: ${message}.`),
    c.req.path === "/mcp",
    c.get("requestId"),
  );
}

/** Refuses all work while the secrets are not those of the stored state. */
async function fitDeployment(c: Context<AppEnv>, next: () => Promise<void>): Promise<void> {
  let check: Awaited<ReturnType<typeof checkDeployment>>;
  try {
    check = await checkDeployment(c.env, c.get("config"), Date.now());
  } catch (error) {
    logEvent("error", "deployment_unreadable", { error: String(error) });
    throw new HttpRefusal(503, "OVERLOADED", "The archive does not answer. Try again.", {
      headers: { "retry-after": "5" },
    });
  }
  if (!check.ok) throw new HttpRefusal(503, "INTERNAL_ERROR", `${check.message}.`);
  await next();
}

/** Authenticates a request to `/mcp`; operators have no MCP role. */
async function mcpRequest(c: Context<AppEnv>, door: Door): Promise<McpRequest> {
  const asking = {
    request: c.req.raw,
    env: c.env,
    config: c.get("config"),
    waitUntil: (work: Promise<unknown>) => c.executionCtx.waitUntil(work),
  };
  const { principal, accessToken } = await door.admit(asking);
  c.get("note")({ principal: principal.id, tenant: principal.tenant, role: principal.role });
  if (principal.role === "operator") {
    throw new HttpRefusal(
      403,
      "FORBIDDEN",
      "An operator's key is for the admin API. Use a key with an MCP role here.",
    );
  }
  const { env } = c;
  return {
    ...asking,
    principal,
    accessToken,
    switches: concerning(await standingSwitches(c, door), principal),
    requestId: c.get("requestId"),
    stillAllowed: () => door.stillAdmitted(asking, principal),
    isStopped: async (sessionId) => {
      const { tenant, role } = principal;
      const subject = { tenant, role, session_id: sessionId, tool: null, upstream: null };
      return stoppedBy(await door.freshSwitches(env), subject) !== null;
    },
    noteEra: (era) => c.get("note")({ era }),
    log: ({ method, tool, error_code, session_id }) =>
      c.get("note")({
        mcp_method: method?.slice(0, MAX_LOGGED_TEXT),
        tool: tool?.slice(0, MAX_LOGGED_TEXT),
        error_code,
        session_id,
      }),
  };
}

/** The kill switches; while nobody can say what is stopped, everything is. */
async function standingSwitches(c: Context<AppEnv>, door: Door): Promise<SwitchSet> {
  try {
    return await door.switches(c.env, (work) => c.executionCtx.waitUntil(work));
  } catch {
    throw new HttpRefusal(503, "OVERLOADED", "The kill switches cannot be read. Try again.", {
      headers: { "retry-after": "5" },
    });
  }
}

/** Whoever has `METRICS_TOKEN`, or is an operator. */
async function mayScrape(c: Context<AppEnv>): Promise<void> {
  const { metricsToken, allowedIps } = c.get("config");
  requireAddress(allowedIps, c.req.raw.headers);
  const credential = credentialOf(c.req.raw.headers);
  if (metricsToken !== null && digestsEqual(sha256Hex(credential), sha256Hex(metricsToken))) return;
  notBootstrap(await operatorOf(c));
}

function unexpected(c: Context<AppEnv>, error: unknown): HttpRefusal {
  logEvent("error", "request_failed", {
    request_id: c.get("requestId"),
    error: error instanceof Error ? `${error.name}: ${error.message}` : String(error),
  });
  return new HttpRefusal(500, "INTERNAL_ERROR", "The gateway failed to answer this request.");
}

/** What follows `/admin` in a log line. */
const ADMIN_PARTS: ReadonlySet<string> = new Set([
  "archive",
  "audit",
  "client-certificates",
  "connections",
  "files",
  "keys",
  "kill-switches",
  "legal-holds",
  "openapi.json",
  "plans",
  "sessions",
  "upstreams",
  "witnessed-logs",
]);

/** Paths in logs are routes, so that ids and whatever a scanner tries stay out of the label. */
function routeOf(path: string): string {
  if (path === "/mcp" || path === "/metrics" || ALWAYS.has(path)) return path;
  if (path === METADATA_PATH || path === `${METADATA_PATH}/mcp`) return METADATA_PATH;
  const open = /^\/(?:log\/(?:checkpoint|vkey|tile)|witness\/(?:add-checkpoint|vkey))(?=\/|$)/.exec(
    path,
  );
  if (open !== null) return open[0];
  const [, first, part = ""] = path.split("/");
  return first === "admin" && ADMIN_PARTS.has(part) ? `/admin/${part}` : "other";
}

/** The trace id of a W3C `traceparent`, if there is one. */
function traceId(headers: Headers): string | null {
  const parent = headers.get("traceparent");
  return parent === null ? null : (/^[0-9a-f]{2}-([0-9a-f]{32})-/.exec(parent)?.[1] ?? null);
}
