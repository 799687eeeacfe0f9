/**
 * @module
 * Whether a caller whose access was narrowed to scopes may ask what it asks.
 * Who is not narrowed never comes here.
 */
import type { JsonValue } from "../mcp/ijson.ts";
import { classifyMessage, type RpcRequest } from "../mcp/jsonrpc.ts";
import { SCOPES, type Scope, scopeOfBuiltIn, scopeOfUpstreamTool } from "../policy/scopes.ts";
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

/** Refuses what the caller's scopes do not cover: 403, with the scopes to ask for. */
export async function requireScopes(
  call: Pick<McpRequest, "env" | "principal">,
  payload: JsonValue,
): Promise<void> {
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

async function neededBy(
  { env, principal }: Pick<McpRequest, "env" | "principal">,
  { method, params }: RpcRequest,
): Promise<Scope | null> {
  if (LIFECYCLE.has(method)) return null;
  if (method !== "tools/call" || typeof params?.name !== "string") return "mcp:read";
  const { name } = params;
  if (name === "begin_session") return null;
  if (findTool(name) !== null) return scopeOfBuiltIn(name);
  const found = (await directoryOf(env)).tool(principal, name);
  return scopeOfUpstreamTool(found?.definition.reads === true);
}
