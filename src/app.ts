/**
 * @module
 * Every route of the gateway on one page, and what happens around each: the
 * guard before it, one log line and the common headers after it.
 */
import { type Context, Hono } from "hono";
import { adminApp } from "./admin/index.ts";
import { type Config, loadConfig } from "./config.ts";
import { admit, stillAdmitted } from "./edge/admission.ts";
import { finishResponse, guardRequest } from "./edge/guard.ts";
import { deleteMcp, getMcp } from "./edge/mcp-2025.ts";
import { type McpRequest, methodNotAllowed } from "./edge/mcp-answer.ts";
import { postMcp } from "./edge/mcp-endpoint.ts";
import { challengeOf, resourceMetadata } from "./edge/protected-resource.ts";
import { HttpRefusal, refusalResponse } from "./edge/refusal.ts";
import { checkDeployment } from "./ops/deployment.ts";
import { health, readiness } from "./ops/health.ts";
import { type LogFields, logEvent } from "./ops/log.ts";

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

export function createApp(): Hono<AppEnv> {
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
    const early = loaded.ok ? guarded(c, loaded.config) : null;
    if (early !== null) c.res = early;
    else if (!loaded.ok && !ALWAYS.has(c.req.path)) c.res = broken(c, loaded.message);
    else await next();
    finishResponse(c.res, c.req.raw, loaded.ok ? loaded.config : null, requestId);
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

  app.get("/health", (c) => c.json(health(Date.now())));
  app.get("/health/ready", async (c) => {
    const answer = await readiness(c.env);
    return c.json(answer, answer.status === "ready" ? 200 : 503);
  });

  app.use("/mcp", fitDeployment);
  app.post("/mcp", async (c) => postMcp(await mcpRequest(c)));
  app.get("/mcp", async (c) => getMcp(await mcpRequest(c)));
  app.delete("/mcp", async (c) => deleteMcp(await mcpRequest(c)));
  app.all("/mcp", () => {
    throw methodNotAllowed();
  });

  app.use("/admin/*", fitDeployment);
  app.route("/admin", adminApp());

  app.get("/.well-known/oauth-protected-resource", metadata);
  app.get("/.well-known/oauth-protected-resource/mcp", metadata);

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

function metadata(c: Context<AppEnv>): Response | Promise<Response> {
  return resourceMetadata(c.get("config"), c.req.raw) ?? c.notFound();
}

function guarded(c: Context<AppEnv>, config: Config): Response | null {
  try {
    return guardRequest(c.req.raw, config);
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
async function mcpRequest(c: Context<AppEnv>): Promise<McpRequest> {
  const asking = {
    request: c.req.raw,
    env: c.env,
    config: c.get("config"),
    waitUntil: (work: Promise<unknown>) => c.executionCtx.waitUntil(work),
  };
  const { principal, accessToken } = await admit(asking);
  c.get("note")({ principal: principal.id, tenant: principal.tenant, role: principal.role });
  if (principal.role === "operator") {
    throw new HttpRefusal(
      403,
      "FORBIDDEN",
      "An operator's key is for the admin API. Use a key with an MCP role here.",
    );
  }
  return {
    ...asking,
    principal,
    accessToken,
    requestId: c.get("requestId"),
    stillAllowed: () => stillAdmitted(asking, principal),
    log: ({ method, tool, error_code, session_id }) =>
      c.get("note")({
        mcp_method: method?.slice(0, MAX_LOGGED_TEXT),
        tool: tool?.slice(0, MAX_LOGGED_TEXT),
        error_code,
        session_id,
      }),
  };
}

function unexpected(c: Context<AppEnv>, error: unknown): HttpRefusal {
  logEvent("error", "request_failed", {
    request_id: c.get("requestId"),
    error: error instanceof Error ? `${error.name}: ${error.message}` : String(error),
  });
  return new HttpRefusal(500, "INTERNAL_ERROR", "The gateway failed to answer this request.");
}

/** Paths in logs are routes, so that ids and whatever a scanner tries stay out of the label. */
function routeOf(path: string): string {
  if (path === "/mcp" || ALWAYS.has(path)) return path;
  const part =
    /^\/admin\/(keys|client-certificates|sessions|audit|plans|files|upstreams|openapi\.json)(?:\/|$)/.exec(
      path,
    )?.[1];
  return part === undefined ? "other" : `/admin/${part}`;
}

/** The trace id of a W3C `traceparent`, if there is one. */
function traceId(headers: Headers): string | null {
  const parent = headers.get("traceparent");
  return parent === null ? null : (/^[0-9a-f]{2}-([0-9a-f]{32})-/.exec(parent)?.[1] ?? null);
}
