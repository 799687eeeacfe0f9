/**
 * @module
 * What a scope of an access token, or of a narrowed key, lets its holder do. A
 * role says what a principal may; a scope says how much of that it lent to the
 * client that speaks for it.
 */
import * as z from "zod";

export const SCOPES = ["mcp:read", "mcp:write", "mcp:plan", "mcp:audit"] as const;

export const scopeSchema = z.enum(SCOPES);

export type Scope = z.infer<typeof scopeSchema>;

/** What is not in this table, sessions and lists among it, is reading. */
const SCOPE_OF_TOOL: Readonly<Record<string, Scope>> = {
  write_file: "mcp:write",
  delete_file: "mcp:write",
  save_plan: "mcp:plan",
  read_audit_log: "mcp:audit",
  verify_workspace_integrity: "mcp:audit",
  replay_execution: "mcp:audit",
};

/** The scope that a call of a built-in tool needs. */
export function scopeOfBuiltIn(tool: string): Scope {
  return Object.hasOwn(SCOPE_OF_TOOL, tool) ? (SCOPE_OF_TOOL[tool] ?? "mcp:read") : "mcp:read";
}

/** The scope that a call of an upstream's tool needs: only what an operator marked as reading is known to. */
export function scopeOfUpstreamTool(reads: boolean): Scope {
  return reads ? "mcp:read" : "mcp:write";
}

/** The known scopes in a space-separated list (RFC 6749, section 3.3); others are no concern of this server. */
export function knownScopes(text: string): Scope[] {
  const given = new Set(text.split(" "));
  return SCOPES.filter((scope) => given.has(scope));
}
