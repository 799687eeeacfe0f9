/**
 * @module
 * A plan that lint lets pass, and the way from there to an approved one.
 */
import { textAt } from "./http.ts";
import { Agent } from "./mcp.ts";
import { Operator } from "./operator.ts";

export type PlanFields = {
  readonly paths?: readonly string[];
  readonly tools?: readonly unknown[];
  readonly forbidden?: { readonly paths?: readonly string[]; readonly tools?: readonly unknown[] };
  readonly title?: string;
  readonly expires_at?: string;
};

export function planOf(fields: PlanFields = {}): Record<string, unknown> {
  const paths = fields.paths ?? ["src/**"];
  return {
    title: fields.title ?? "Greeting service",
    objective: "Write the modules of the greeting service and their tests.",
    scope: { paths, tools: fields.tools ?? ["write_file", "delete_file"] },
    ...(fields.forbidden === undefined ? {} : { forbidden: fields.forbidden }),
    phases: [
      {
        id: "PHASE_1",
        objective: "Write the modules.",
        paths,
        verification: "npm test passes in the workspace.",
      },
    ],
    rollback: "Delete the files that this plan added.",
    ...(fields.expires_at === undefined ? {} : { expires_at: fields.expires_at }),
  };
}

export type Deployment = {
  readonly url: string;
  readonly keys: { readonly operator: string; readonly antigravity: string };
};

/** Saves a plan as the planner; answers with its hash. */
export async function savedPlan(
  { url, keys }: Deployment,
  workspaceRoot: string,
  fields: PlanFields = {},
): Promise<string> {
  const planner = await Agent.connect(url, keys.antigravity);
  await planner.ok("begin_session", { workspace_root: workspaceRoot });
  const saved = await planner.ok("save_plan", { plan: planOf(fields) });
  await planner.close();
  return textAt(saved, "plan_hash");
}

/** Saves a plan as the planner and approves it as the operator; answers with its hash. */
export async function approvedPlan(
  deployment: Deployment,
  workspaceRoot: string,
  fields: PlanFields = {},
): Promise<string> {
  const hash = await savedPlan(deployment, workspaceRoot, fields);
  await new Operator(deployment.url, deployment.keys.operator).approve(hash, workspaceRoot);
  return hash;
}
