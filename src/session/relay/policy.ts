/**
 * @module
 * Whether a request may go to an upstream: session, definition, gate and plan,
 * looked at before it leaves and again in every round.
 */
import { workspaceStub } from "../../objects.ts";
import type { Approved } from "../../policy/decide.ts";
import { allow, type Decision, type Refusal, refuse } from "../../policy/errors.ts";
import type { KillSwitch } from "../../policy/kill-switch.ts";
import { type Job, log } from "./job.ts";

/** The kill switch that stops this request, at its beginning and before each further round of it. */
export function stoppedNow({ runtime, request, route }: Job): KillSwitch | null {
  // Whoever brings a task what it waits for uses its tool; who looks at it, or ends it, does not.
  const usesTool = route.kind === "tool" || request.method === "tasks/update";
  return runtime.stoppedBy({
    tool: usesTool ? route.label : null,
    upstream: route.entry.config.name,
  });
}

/** Session, definition, gate and plan given, in this order: the first that fails is the answer. */
export function earlyRefusal({ runtime, route, workspace_root, plan_hash }: Job): Refusal | null {
  const { entry, definition, kind, label } = route;
  const { name, gate } = entry.config;
  if (runtime.stateless?.handleRefused === true) {
    return {
      code: "SESSION_NOT_FOUND",
      message:
        "There is no such session. Call begin_session, and pass the session_id it answers with.",
    };
  }
  if (definition !== null && definition.status === "changed") {
    return {
      code: "TOOL_CHANGED",
      message: `${name} has changed ${label} since an operator approved it. Ask an operator to approve it as it is now.`,
    };
  }
  if (kind !== "tool" || gate === "open") return null;
  if (gate === "read_only") {
    if (definition?.reads === true) return null;
    return {
      code: "FORBIDDEN",
      message: `Only what an operator marked as reading may be called at ${name}, and ${label} is not.`,
    };
  }
  if (workspace_root === null) {
    return {
      code: "SESSION_REQUIRED",
      message: `${label} needs a session with a workspace. Call begin_session first.`,
    };
  }
  if (plan_hash === null) {
    return {
      code: "PLAN_REQUIRED",
      message: `${label} needs an approved plan that names it. Call begin_session with its plan_hash.`,
    };
  }
  return null;
}

/** What changed while the client was asked: the caller's rights, or the definition. */
export async function lateRefusal(job: Job): Promise<Refusal | null> {
  const route = await job.routeNow();
  if (route !== null) return earlyRefusal({ ...job, route });
  return {
    code: "FORBIDDEN",
    message: `${job.route.entry.config.name} may no longer be used for this. The call was not finished.`,
  };
}

/**
 * Asks the Workspace object, as of now: no cached approval is trusted. What needs no plan is asked
 * about too where one is bound, for what it forbids stays forbidden.
 */
export async function decide(job: Job): Promise<Decision<Approved | null>> {
  const { route, runtime, workspace_root, plan_hash: planHash } = job;
  const { definition, label, entry } = route;
  if (job.request.method === "tasks/update" && entry.config.gate === "plan") return decideTask(job);
  const isPlanned = route.kind === "tool" && entry.config.gate === "plan";
  if (workspace_root === null || planHash === null || definition === null || label === null) {
    return isPlanned ? refuse("PLAN_REQUIRED", "This call needs an approved plan.") : allow(null);
  }
  const call = { planHash, tool: label, args: route.args };
  try {
    const workspace = workspaceStub(runtime.env, runtime.state().tenant, workspace_root);
    if (isPlanned) return await workspace.decideUpstream({ ...call, pin: definition.pin });
    const decision = await workspace.decideUnplanned(call);
    return decision.ok ? allow(null) : decision;
  } catch (error) {
    log(job, "plan_undecided", error);
    return refuse("OVERLOADED", "The plan cannot be looked at now. Nothing was called; try again.");
  }
}

/** What goes on with a task needs the plan to stand that its call was made under. */
async function decideTask(job: Job): Promise<Decision<Approved | null>> {
  const plan = job.route.startedUnder ?? null;
  if (plan === null) return refuse("PLAN_REQUIRED", "This task was not begun under a plan.");
  try {
    const { tenant } = job.runtime.state();
    const workspace = workspaceStub(job.runtime.env, tenant, plan.workspace_root);
    return await workspace.bindable(plan.plan_hash);
  } catch (error) {
    log(job, "plan_undecided", error);
    return refuse("OVERLOADED", "The plan cannot be looked at now. Nothing was called; try again.");
  }
}
