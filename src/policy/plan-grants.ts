/**
 * @module
 * What approving a plan allows, in sentences for the operator who is asked.
 * Made of the plan's scope alone; what the plan's author wrote appears only in
 * quotes, as JSON strings, for it is data and not the gateway's word.
 */
import { FILE_CHANGING_TOOLS, type Plan, type PlanTool } from "./plan.ts";

/** Sentences on what sessions may do under a plan, the most far-reaching first. */
export function planGrants(plan: Plan, workspaceRoot: string): string[] {
  const { scope, forbidden } = plan;
  const sentences = scope.tools.map((tool) => grantOf(tool, scope.paths, workspaceRoot));
  if (scope.tools.length === 0) sentences.push("No tool may change anything.");
  for (const tool of forbidden?.tools ?? []) sentences.push(`Never: ${described(tool)}.`);
  if (forbidden?.paths !== undefined && forbidden.paths.length > 0) {
    sentences.push(
      `Never, not even for reading: files of ${quoted(workspaceRoot)} that match ${listed(forbidden.paths)}.`,
    );
  }
  if (plan.expires_at !== undefined) sentences.push(`All of it ends at ${plan.expires_at}.`);
  return sentences;
}

const VERBS: Readonly<Record<string, string>> = {
  write_file: "Create and overwrite",
  delete_file: "Delete",
};

function grantOf(tool: PlanTool, paths: readonly string[], root: string): string {
  const { name, when } = partsOf(tool);
  const condition = when === null ? "" : `, when ${quoted(when)} holds`;
  if (!FILE_CHANGING_TOOLS.has(name)) return `Call ${described(tool)}.`;
  const verb = VERBS[name] ?? "Change";
  return `${verb} files of ${quoted(root)} that match ${listed(paths)}${condition}.`;
}

function described(tool: PlanTool): string {
  const { name, when } = partsOf(tool);
  return `${quoted(name)}${when === null ? ", with any arguments" : `, when ${quoted(when)} holds`}`;
}

function partsOf(tool: PlanTool): { name: string; when: string | null } {
  return typeof tool === "string"
    ? { name: tool, when: null }
    : { name: tool.name, when: tool.when ?? null };
}

function listed(paths: readonly string[]): string {
  return paths.map(quoted).join(" or ");
}

function quoted(text: string): string {
  return JSON.stringify(text);
}
