/**
 * @module
 * The plans of a workspace and their states. A plan's content is fixed by its
 * hash; only its state moves: proposed → approved → revoked, which is final.
 * Expiry is not stored, it follows from the clock.
 */
import * as z from "zod";
import { allow, type Decision, refuse } from "../policy/errors.ts";
import {
  type ApprovalState,
  effectiveStatus,
  type Plan,
  type PlanStatus,
  parsePlan,
} from "../policy/plan.ts";
import type { PlanApproval, PlanDetail, PlanSummary } from "./types.ts";

export type PlanRow = {
  hash: string;
  plan: string;
  title: string;
  status: string;
  saved_by: string;
  saved_at: string;
  approved_by: string | null;
  approved_at: string | null;
  approval_expires_at: string | null;
  revoked_by: string | null;
  revoked_at: string | null;
  reason: string | null;
  /** JSON object of the approval: the pins of the upstream tools in the plan's scope, by the name it uses. */
  pins: string | null;
};

/** Pins of upstream tools by exposed name. */
export type Pins = Readonly<Record<string, string>>;

/** What the stored state says, before the clock is asked. */
export function approvalState(row: PlanRow): ApprovalState {
  return {
    status:
      row.status === "approved" ? "approved" : row.status === "revoked" ? "revoked" : "proposed",
    approved_by: row.approved_by,
    approved_at: row.approved_at,
    approval_expires_at: row.approval_expires_at,
  };
}

export function planRow(sql: SqlStorage, hash: string): PlanRow | null {
  return sql.exec<PlanRow>("SELECT * FROM plans WHERE hash = ?", hash).toArray()[0] ?? null;
}

export function countPlans(sql: SqlStorage): number {
  return sql.exec<{ plans: number }>("SELECT count(*) AS plans FROM plans").one().plans;
}

/** The stored plan, which passed lint when it was saved. */
export function storedPlan(row: PlanRow): Plan {
  return parsePlan(JSON.parse(row.plan));
}

/** Saves a plan as proposed; the same plan again is the same plan, in whatever state it is. */
export function savePlan(
  sql: SqlStorage,
  plan: { hash: string; text: string; title: string },
  by: string,
  at: string,
): void {
  sql.exec(
    `INSERT INTO plans (hash, plan, title, status, saved_by, saved_at)
     VALUES (?, ?, ?, 'proposed', ?, ?) ON CONFLICT (hash) DO NOTHING`,
    plan.hash,
    plan.text,
    plan.title,
    by,
    at,
  );
}

/** The pins that an approval keeps: of the tools that the plan names in its scope, in their order by name. */
function pinsInScope(plan: Plan, pins: Pins): string {
  const names = plan.scope.tools.map((tool) => (typeof tool === "string" ? tool : tool.name));
  const kept = [...new Set(names)].sort().filter((name) => Object.hasOwn(pins, name));
  return JSON.stringify(Object.fromEntries(kept.map((name) => [name, pins[name]])));
}

const pinMap = z.record(z.string(), z.string());

/** The pins that the plan's approval keeps. */
export function approvedPins(row: PlanRow): ReadonlyMap<string, string> {
  return new Map(row.pins === null ? [] : Object.entries(pinMap.parse(JSON.parse(row.pins))));
}

/** How a deployment approves: how many operators it takes, and how long their word holds. */
export type ApprovalRule = { readonly required: number; readonly lifeMs: number };

/**
 * Puts down an operator's approval of a plan. With as many of different
 * operators as the rule asks for, the plan is approved, or its approval renewed
 * where it has run out or was given for other definitions of its upstream
 * tools; until then it stays as it is. An approval counts for as long as the
 * rule says, and only for the pins that it was given for.
 *
 * @param pins of every upstream tool that the plan might name, as they are approved now
 */
export function approvePlan(
  sql: SqlStorage,
  hash: string,
  by: string,
  reason: string | null,
  pins: Pins,
  nowMs: number,
  { required, lifeMs }: ApprovalRule,
): Decision<PlanRow> {
  const row = planRow(sql, hash);
  if (row === null) return refuse("PLAN_NOT_FOUND", noSuchPlan(hash));
  if (row.status === "revoked") {
    return refuse("CONFLICT", "This plan was revoked, which is final. Have a new plan saved.");
  }
  const plan = storedPlan(row);
  const status = effectiveStatus(approvalState(row), plan, nowMs);
  const kept = pinsInScope(plan, pins);
  if (status === "approved" && (row.pins ?? "{}") === kept) return allow(row);
  const planEnd =
    plan.expires_at === undefined ? Number.POSITIVE_INFINITY : Date.parse(plan.expires_at);
  if (planEnd <= nowMs) {
    return refuse(
      "PLAN_EXPIRED",
      `The plan itself ended at ${plan.expires_at}. Have a new one saved.`,
    );
  }
  sql.exec(
    `INSERT INTO plan_approvals (hash, by, at, reason, pins) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT (hash, by) DO UPDATE SET
       at = excluded.at, reason = excluded.reason, pins = excluded.pins`,
    hash,
    by,
    new Date(nowMs).toISOString(),
    reason,
    kept,
  );
  const approvals = countingApprovals(sql, hash, kept, nowMs - lifeMs);
  const oldest = approvals.at(-required);
  if (oldest === undefined) return allow(row);
  sql.exec(
    `UPDATE plans SET status = 'approved', approved_by = ?, approved_at = ?,
       approval_expires_at = ?, reason = ?, pins = ? WHERE hash = ?`,
    by,
    new Date(nowMs).toISOString(),
    // It holds for as long as the oldest word that it rests on.
    new Date(Math.min(planEnd, Date.parse(oldest.at) + lifeMs)).toISOString(),
    reason,
    kept,
    hash,
  );
  return allow(planRow(sql, hash) ?? row);
}

/** Approvals of a plan after a time, for the given pins, oldest first. */
function countingApprovals(
  sql: SqlStorage,
  hash: string,
  pins: string,
  afterMs: number,
): PlanApproval[] {
  return sql
    .exec<PlanApproval>(
      `SELECT by, at, reason FROM plan_approvals
       WHERE hash = ? AND pins = ? AND at > ? ORDER BY at, by`,
      hash,
      pins,
      new Date(afterMs).toISOString(),
    )
    .toArray();
}

/** The approvals of a plan that hold, whatever pins they were given for, oldest first. */
function approvalsOf(sql: SqlStorage, hash: string, afterMs: number): PlanApproval[] {
  return sql
    .exec<PlanApproval>(
      "SELECT by, at, reason FROM plan_approvals WHERE hash = ? AND at > ? ORDER BY at, by",
      hash,
      new Date(afterMs).toISOString(),
    )
    .toArray();
}

/** Revokes a plan, approved or only proposed. Repeating it changes nothing. */
export function revokePlan(
  sql: SqlStorage,
  hash: string,
  by: string,
  reason: string | null,
  nowMs: number,
): Decision<PlanRow> {
  const row = planRow(sql, hash);
  if (row === null) return refuse("PLAN_NOT_FOUND", noSuchPlan(hash));
  if (row.status === "revoked") return allow(row);
  sql.exec(
    `UPDATE plans SET status = 'revoked', revoked_by = ?, revoked_at = ?, reason = ? WHERE hash = ?`,
    by,
    new Date(nowMs).toISOString(),
    reason,
    hash,
  );
  return allow(planRow(sql, hash) ?? row);
}

export function noSuchPlan(hash: string): string {
  return `No plan ${hash} is saved for this workspace. Save it first, or check the hash.`;
}

export function planSummary(row: PlanRow, nowMs: number): PlanSummary {
  const plan = storedPlan(row);
  const state = approvalState(row);
  return {
    plan_hash: row.hash,
    title: row.title,
    status: effectiveStatus(state, plan, nowMs),
    scope: plan.scope,
    approved_by: row.approved_by,
    approved_at: row.approved_at,
    expires_at: row.approval_expires_at ?? plan.expires_at ?? null,
  };
}

export function planDetail(
  sql: SqlStorage,
  row: PlanRow,
  workspaceRoot: string,
  nowMs: number,
  { lifeMs }: ApprovalRule,
): PlanDetail {
  return {
    ...planSummary(row, nowMs),
    workspace_root: workspaceRoot,
    plan: row.plan,
    saved_by: row.saved_by,
    saved_at: row.saved_at,
    revoked_by: row.revoked_by,
    revoked_at: row.revoked_at,
    reason: row.reason,
    approvals: approvalsOf(sql, row.hash, nowMs - lifeMs),
  };
}

/** Plans of the workspace by hash, of one status when given, after `after`. */
export function listPlans(
  sql: SqlStorage,
  options: { status: PlanStatus | null; after: string; limit: number },
  nowMs: number,
): PlanRow[] {
  const found: PlanRow[] = [];
  // The status depends on the clock, so it is decided here and not by an index.
  const rows = sql.exec<PlanRow>("SELECT * FROM plans WHERE hash > ? ORDER BY hash", options.after);
  for (const row of rows) {
    const status = effectiveStatus(approvalState(row), storedPlan(row), nowMs);
    if (options.status !== null && status !== options.status) continue;
    found.push(row);
    if (found.length >= options.limit) break;
  }
  return found;
}
