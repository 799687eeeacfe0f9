/**
 * @module
 * Who may act. What each role may call is said by the tools themselves.
 */
import * as z from "zod";

export const ROLES = ["antigravity", "windsurf", "auditor", "operator"] as const;

export const roleSchema = z.enum(ROLES);

export type Role = z.infer<typeof roleSchema>;

/** The roles that speak MCP; an operator has the admin API alone. */
export const MCP_ROLES = ["antigravity", "windsurf", "auditor"] as const satisfies readonly Role[];

export type McpRole = (typeof MCP_ROLES)[number];
