/**
 * @module
 * The one table of built-in tools.
 */
import { readAuditLog, replayExecution, verifyWorkspaceIntegrity } from "./audit.ts";
import { deleteFile, listFiles, readFile, writeFile } from "./files.ts";
import { lintPlan, listPlans, readPlan, savePlan } from "./plans.ts";
import { beginSession } from "./session.ts";
import type { BuiltInTool } from "./tool.ts";

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

const listTexts = new Map<string, string>();

/** The result of `tools/list` for a role, as text: what it may call, sorted by name. */
export function toolListText(role: string): string {
  const known = listTexts.get(role);
  if (known !== undefined) return known;
  const tools = [...TOOLS.values()]
    .filter((tool) => tool.roles.some((allowed) => allowed === role))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((tool) => tool.listing());
  const text = JSON.stringify({ tools });
  listTexts.set(role, text);
  return text;
}
