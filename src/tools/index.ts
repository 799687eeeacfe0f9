/**
 * @module
 * The one table of built-in tools.
 */
import { readAuditLog, replayExecution, verifyWorkspaceIntegrity } from "./audit.ts";
import { deleteFile, listFiles, readFile, writeFile } from "./files.ts";
import { lintPlan, listPlans, readPlan, savePlan } from "./plans.ts";
import { beginSession } from "./session.ts";
import type { BuiltInTool, ToolListing } from "./tool.ts";

const TOOLS: ReadonlyMap<string, BuiltInTool> = new Map(
  [
    beginSession,
    readFile,
    listFiles,
    writeFile,
    deleteFile,
    savePlan,
    lintPlan,
    listPlans,
    readPlan,
    readAuditLog,
    verifyWorkspaceIntegrity,
    replayExecution,
  ].map((tool) => [tool.name, tool]),
);

export function findTool(name: string): BuiltInTool | null {
  return TOOLS.get(name) ?? null;
}

/** What a role may call, sorted by name. */
export function listTools(role: string): ToolListing[] {
  return [...TOOLS.values()]
    .filter((tool) => tool.roles.some((allowed) => allowed === role))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((tool) => tool.listing());
}
