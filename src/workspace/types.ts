/**
 * @module
 * What crosses the boundary of a Workspace object: plain data, one type for
 * each call and answer.
 */
import * as z from "zod";
import type { CallArgs } from "../policy/decide.ts";
import { PLAN_STATES, type Plan, type PlanStatus } from "../policy/plan.ts";

export type Encoding = "utf-8" | "base64";

/** The call behind a change: the session and the seq of its intent are the journal's key. */
export type Origin = {
  readonly session_id: string;
  readonly seq: number;
  readonly principal: string;
};

/** Which workspace an object is: given with each change, kept from the first. */
export type WorkspaceName = { readonly tenant: string; readonly root: string };

export type FileContent = {
  path: string;
  content: string;
  encoding: Encoding;
  sha256: string;
  bytes: number;
  version: number;
};

export type FileEntry = {
  path: string;
  sha256: string;
  bytes: number;
  version: number;
  updated_at: string;
};

/** What a change did: recorded in the chain as `context.effect`, and in the journal. */
export const effectSchema = z.object({
  path: z.string(),
  sha256_before: z.string().nullable(),
  sha256_after: z.string().nullable(),
  version: z.number().int(),
});
export type Effect = z.infer<typeof effectSchema>;

export const approvalSchema = z.object({ by: z.string(), at: z.string() });
export type Approval = z.infer<typeof approvalSchema>;

/** What the journal keeps of a change, for settling an intent whose answer was lost. */
export const journalOutcomeSchema = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("file"),
    effect: effectSchema,
    bytes: z.number().int(),
    approval: approvalSchema,
  }),
  z.object({ kind: z.literal("plan"), plan_hash: z.string(), status: z.enum(PLAN_STATES) }),
]);
export type JournalOutcome = z.infer<typeof journalOutcomeSchema>;

export type ChangeInput = {
  readonly workspace: WorkspaceName;
  readonly origin: Origin;
  readonly tool: string;
  /** The arguments as sent, for `when` conditions. */
  readonly args: Readonly<Record<string, string>>;
  readonly path: string;
  readonly plan_hash: string;
  readonly expected_sha256: string | null;
};

export type WriteInput = ChangeInput & { readonly content: string; readonly encoding: Encoding };

/** A call of an upstream tool, which leaves the workspace as it is. */
export type UpstreamCall = {
  readonly planHash: string;
  /** The name that the client called it by, as plans name it. */
  readonly tool: string;
  /** The arguments as sent, for `when` conditions. */
  readonly args: CallArgs;
  /** Of the definition that the call is made by. */
  readonly pin: string;
};

export type PlanSummary = {
  plan_hash: string;
  title: string;
  status: PlanStatus;
  scope: Plan["scope"];
  approved_by: string | null;
  approved_at: string | null;
  expires_at: string | null;
};

/** One operator's word on a plan. */
export type PlanApproval = { by: string; at: string; reason: string | null };

/** A plan with all that an operator asks of it; `plan` is its RFC 8785 text. */
export type PlanDetail = PlanSummary & {
  workspace_root: string;
  plan: string;
  saved_by: string;
  saved_at: string;
  revoked_by: string | null;
  revoked_at: string | null;
  reason: string | null;
  /** Approvals that count now, oldest first: as many as the deployment asks for make it approved. */
  approvals: PlanApproval[];
};

/** One version of a file, as an operator sees its history. */
export type FileVersion = {
  path: string;
  version: number;
  sha256: string | null;
  bytes: number;
  deleted: boolean;
  session_id: string;
  seq: number;
  principal: string;
  plan_hash: string;
  created_at: string;
};

export type IntegrityFinding = { code: string; message: string };

export type WorkspaceIntegrity = {
  files: { ok: boolean; checked: number };
  plans: { ok: boolean; checked: number };
  findings: IntegrityFinding[];
};

/** How an intent that lost its answer ended: what was written, or that it never will be. */
export type Settlement = { done: true; outcome: JournalOutcome } | { done: false };
