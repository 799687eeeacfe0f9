/**
 * @module
 * Whether a caller whose access was narrowed to scopes may ask what it asks.
 * Who is not narrowed never comes here.
 */
import type { JsonValue } from "../mcp/ijson.ts";
import { classifyMessage, type RpcRequest } from "../mcp/jsonrpc.ts";
import { SCOPES, type Scope, scopeOfBuiltIn, scopeOfUpstreamTool } from "../policy/scopes.ts";
import { openTaskId } from "../session/task-id.ts";
import { findTool } from "../tools/index.ts";
import { directoryOf } from "../upstream/directory.ts";
import type { McpRequest } from "./mcp-answer.ts";
import { HttpRefusal } from "./refusal.ts";

/** What any scope is enough for: to come in, to look around, and to leave. */
const LIFECYCLE = new Set([
  "initialize",
  "ping",
  "server/discover",
  "tools/list",
  "prompts/list",
  "resources/list",
  "resources/templates/list",
  "logging/setLevel",
]);

type Asking = Pick<McpRequest, "env" | "config" | "principal">;

/** Refuses what the caller's scopes do not cover: 403, with the scopes to ask for. */
export async function requireScopes(call: Asking, payload: JsonValue): Promise<void> {
  const { scopes } = call.principal;
  if (scopes === undefined) return;
  for (const message of Array.isArray(payload) ? payload : [payload]) {
    const classified = classifyMessage(message);
    const needed = classified.kind === "request" ? await neededBy(call, classified.message) : null;
    requireScope(scopes, needed);
  }
}

/** @param needed null where any scope is enough */
export function requireScope(scopes: readonly Scope[] | undefined, needed: Scope | null): void {
  if (scopes === undefined) return;
  if (needed === null ? scopes.length > 0 : scopes.includes(needed)) return;
  const wanted = needed ?? "mcp:read";
  // What it has belongs to it too: a token for the new scope alone would lose the rest.
  const list = SCOPES.filter((scope) => scope === wanted || scopes.includes(scope)).join(" ");
  throw new HttpRefusal(
    403,
    "FORBIDDEN",
    `This needs the scope ${wanted}, which was not granted.`,
    {
      headers: { "www-authenticate": `Bearer error="insufficient_scope", scope="${list}"` },
      data: { scope: list },
    },
  );
}

async function neededBy(call: Asking, { method, params }: RpcRequest): Promise<Scope | null> {
  if (LIFECYCLE.has(method)) return null;
  if (method === "tasks/update" || method === "tasks/cancel") return neededForTask(call, params);
  if (method !== "tools/call" || typeof params?.name !== "string") return "mcp:read";
  const { name } = params;
  if (name === "begin_session") return null;
  if (findTool(name) !== null) return scopeOfBuiltIn(name);
  return neededForUpstreamTool(call, name);
}

async function neededForUpstreamTool({ env, principal }: Asking, name: string): Promise<Scope> {
  const found = (await directoryOf(env)).tool(principal, name);
  return scopeOfUpstreamTool(found?.definition.reads === true);
}

/** To go on with a task, or to end it, is to use the tool that it came of; to look at it is reading. */
async function neededForTask(call: Asking, params: RpcRequest["params"]): Promise<Scope> {
  const { config, principal } = call;
  const owner = { tenant: principal.tenant, principal: principal.id };
  const { taskId } = params ?? {};
  const task = typeof taskId === "string" ? openTaskId(config.secretsKey, owner, taskId) : null;
  // No task of the caller's: the session says so.
  if (task === null) return "mcp:read";
  return task.tool === null ? scopeOfUpstreamTool(false) : neededForUpstreamTool(call, task.tool);
}
