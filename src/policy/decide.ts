/**
 * @module
 * The decisions: may this call be made under this plan, may this path be read. Pure, so that the
 * Workspace object can take them within the transaction that writes, and a replay can take them
 * again.
 */
import { type Condition, evaluate, parseCondition } from "./condition.ts";
import { allow, type Decision, refuse } from "./errors.ts";
import { compileForbidden, compileGlobs } from "./glob.ts";
import { checkPath } from "./paths.ts";
import {
  type ApprovalState,
  expiredAt,
  FILE_CHANGING_TOOLS,
  type Plan,
  type PlanTool,
} from "./plan.ts";

/** Conditions of a tool's entries; null stands for an entry without one. */
type ToolEntries = ReadonlyMap<string, readonly (Condition | null)[]>;

/** A plan made ready for decisions; worth keeping, by the plan's hash. */
export type CompiledPlan = {
  readonly plan: Plan;
  readonly isInScope: (path: string) => boolean;
  readonly isForbidden: (path: string) => boolean;
  readonly scopeTools: ToolEntries;
  readonly forbiddenTools: ToolEntries;
};

/** Arguments of a call, as JSON. */
export type CallArgs = Readonly<Record<string, unknown>>;

export type PlannedCall = {
  readonly plan: CompiledPlan;
  readonly state: ApprovalState;
  /** Unix milliseconds. */
  readonly now: number;
  readonly tool: string;
  readonly args: CallArgs;
  /** The path in the workspace that the call changes; null for tools that change none. */
  readonly path: string | null;
};

export type PlannedUpstreamCall = PlannedCall & {
  /** Of the tool's definition that the call is made by. */
  readonly pin: string;
  /** Pins that the plan's approval keeps, by the tool's name in the plan. */
  readonly pins: ReadonlyMap<string, string>;
};

/** Who approved the plan that a call runs under, and when: every record of the call names them. */
export type Approved = { readonly approval: { readonly by: string; readonly at: string } };

/** @throws Error for a plan that lint would not let in; one that passed lint always compiles */
export function compilePlan(plan: Plan): CompiledPlan {
  return {
    plan,
    isInScope: compileGlobs(plan.scope.paths),
    isForbidden: compileForbidden(plan.forbidden?.paths ?? []),
    scopeTools: compileTools(plan.scope.tools),
    forbiddenTools: compileTools(plan.forbidden?.tools ?? []),
  };
}

/**
 * Decides a call that changes something. In this order, the first that fails: the path is one, the
 * plan is approved, it has not expired, the call is not forbidden and is in scope.
 */
export function decidePlannedCall(call: PlannedCall): Decision<Approved> {
  const { plan, state } = call;
  if (call.path !== null) {
    const path = checkPath(call.path);
    if (!path.ok) return path;
  }
  if (state.status === "revoked") {
    return refuse(
      "PLAN_NOT_APPROVED",
      "The plan was revoked, which is final. Work under another approved plan, or have a new one saved and approved.",
    );
  }
  if (state.status === "proposed") {
    return refuse(
      "PLAN_NOT_APPROVED",
      "The plan is proposed and not approved yet. Ask an operator to approve it.",
    );
  }
  const { approved_by: by, approved_at: at } = state;
  if (by === null || at === null) {
    return refuse(
      "PLAN_NOT_APPROVED",
      "The approval does not say whose it is. Ask an operator to approve the plan again.",
    );
  }
  const ended = expiredAt(state, plan.plan, call.now);
  if (ended !== null) {
    return refuse(
      "PLAN_EXPIRED",
      ended === plan.plan.expires_at
        ? `The plan ended at ${ended}. Have a new one saved and approved.`
        : `The approval ended at ${ended}. Ask an operator to approve the plan again.`,
    );
  }
  const outside = forbiddenReason(plan, call.tool, call.args, call.path) ?? scopeReason(call);
  return outside === null
    ? allow({ approval: { by, at } })
    : refuse("PLAN_SCOPE_VIOLATION", outside);
}

/**
 * Decides a call of an upstream tool: as any planned call, and then by the pin.
 * An operator approved the plan for the tool as it was defined then; another
 * definition is another tool.
 */
export function decideUpstreamCall(call: PlannedUpstreamCall): Decision<Approved> {
  const decided = decidePlannedCall(call);
  if (!decided.ok || call.pins.get(call.tool) === call.pin) return decided;
  return refuse(
    "PLAN_NOT_APPROVED",
    `The tool ${call.tool} changed since the plan was approved, or was not there yet. Have the plan approved again.`,
  );
}

/** Decides a read: it needs no plan, but what a bound plan forbids is not read either. */
export function decideRead(plan: CompiledPlan | null, path: string): Decision {
  if (plan === null || !isForbiddenPath(plan, path)) return allow();
  return refuse("PLAN_SCOPE_VIOLATION", forbiddenPath(path));
}

/**
 * Decides a call that needs no plan, of an upstream's tool or prompt: what a bound plan forbids by
 * name stays forbidden.
 */
export function decideUnplannedCall(
  plan: CompiledPlan | null,
  tool: string,
  args: CallArgs,
): Decision {
  const reason = plan === null ? null : forbiddenReason(plan, tool, args, null);
  return reason === null ? allow() : refuse("PLAN_SCOPE_VIOLATION", reason);
}

export function isForbiddenPath(plan: CompiledPlan, path: string): boolean {
  return plan.isForbidden(path);
}

/**
 * Why something that was done lies outside a plan, as far as its tool and its path tell; null where
 * it does not. Conditions are left out: the arguments of a call that is over may be gone.
 */
export function describeEffectOutside(
  plan: CompiledPlan,
  tool: string,
  path: string | null,
): string | null {
  if (plan.forbiddenTools.get(tool)?.includes(null)) return forbiddenTool(tool);
  if (path !== null && isForbiddenPath(plan, path)) return forbiddenPath(path);
  if (!plan.scopeTools.has(tool)) return toolOutside(tool);
  return pathOutside(plan, tool, path);
}

/** `forbidden` wins over scope. Where its condition cannot be evaluated, the tool is forbidden. */
function forbiddenReason(
  plan: CompiledPlan,
  tool: string,
  args: CallArgs,
  path: string | null,
): string | null {
  for (const when of plan.forbiddenTools.get(tool) ?? []) {
    if (when === null) return forbiddenTool(tool);
    const result = evaluate(when, args);
    if (!result.ok) return `${forbiddenTool(tool)} ${result.message} (${when.text})`;
    if (result.value)
      return `The plan forbids ${tool} when ${when.text}. Change the arguments, or leave it.`;
  }
  return path !== null && isForbiddenPath(plan, path) ? forbiddenPath(path) : null;
}

/** A tool may have several entries; any one of them is enough. */
function scopeReason({ plan, tool, args, path }: PlannedCall): string | null {
  const entries = plan.scopeTools.get(tool);
  if (entries === undefined) return toolOutside(tool);
  const outside = pathOutside(plan, tool, path);
  if (outside !== null || entries.includes(null)) return outside;
  let reason = "";
  for (const when of entries) {
    if (when === null) return null;
    const result = evaluate(when, args);
    if (result.ok && result.value) return null;
    reason ||= `${when.text}. ${result.ok ? "That does not hold." : result.message}`;
  }
  return `The plan allows ${tool} only when ${reason} Change the arguments, or have a plan saved that allows this.`;
}

function pathOutside(plan: CompiledPlan, tool: string, path: string | null): string | null {
  if (path === null) {
    return FILE_CHANGING_TOOLS.has(tool)
      ? `${tool} names no path, so the plan cannot allow it. Name one.`
      : null;
  }
  if (plan.isInScope(path)) return null;
  return `${path} is not among the paths of the plan. Stay within its scope, or have a plan saved that covers it.`;
}

function toolOutside(tool: string): string {
  return `The plan does not name ${tool} among its tools. Use one that it names, or have a plan saved that names it.`;
}

function forbiddenTool(tool: string): string {
  return `The plan forbids ${tool}. Work without it, or have another plan saved.`;
}

function forbiddenPath(path: string): string {
  return `The plan forbids ${path}. Leave it alone, or have another plan saved.`;
}

function compileTools(tools: readonly PlanTool[]): ToolEntries {
  const entries = new Map<string, (Condition | null)[]>();
  for (const tool of tools) {
    const { name, when } = typeof tool === "string" ? { name: tool, when: undefined } : tool;
    const known = entries.get(name) ?? [];
    known.push(when === undefined ? null : mustParse(when));
    entries.set(name, known);
  }
  return entries;
}

function mustParse(when: string): Condition {
  const parsed = parseCondition(when);
  if (!parsed.ok)
    throw new Error(`Unusable condition ${JSON.stringify(when)}: ${parsed.refusal.message}`);
  return parsed.value;
}
