/**
 * @module
 * The tools by which agents write, check and read plans. None approves one:
 * that is the operator's, outside MCP.
 */
import * as z from "zod";
import { canonicalJson } from "../audit/canonical.ts";
import type { JsonObject } from "../audit/record.ts";
import { lintPlan as lint } from "../policy/lint.ts";
import { PLAN_STATES, parsePlan, planHash } from "../policy/plan.ts";
import { decodeCursor, encodeCursor } from "./cursor.ts";
import { answer, defineTool, refused } from "./tool.ts";

const hash = z.string().regex(/^[0-9a-f]{64}$/, "must be 64 lowercase hex digits");
/** The plan as it was sent, whole: a schema that copies would drop an own `__proto__`, and lint must see it. */
const planObject = z
  .custom<JsonObject>(
    (value) => typeof value === "object" && value !== null && !Array.isArray(value),
    "must be an object",
  )
  .meta({ type: "object", description: "The plan, as JSON." });

const finding = z.object({
  code: z.string(),
  severity: z.enum(["error", "warning"]),
  path: z.string(),
  message: z.string(),
});
const lintReport = z.object({ ok: z.boolean(), findings: z.array(finding) });
const status = z.enum(PLAN_STATES);

const LIST_LIMIT = 200;

export const savePlan = defineTool({
  name: "save_plan",
  title: "Save a plan",
  description:
    "Saves a plan for this workspace as proposed. An operator approves it before anything may be done under it. Saving the same plan again is the same plan.",
  roles: ["antigravity"],
  record: "effect",
  input: z.strictObject({ plan: planObject }),
  output: z.object({ plan_hash: z.string(), status, lint: lintReport }),
  needsWorkspace: true,
  check: (args, { now }) => {
    const report = lint(args.plan, now);
    if (report.ok) return null;
    const errors = report.findings.filter((found) => found.severity === "error");
    return {
      code: "INVALID_ARGUMENT",
      message: `The plan was not saved. ${errors
        .map(
          (found) =>
            `${found.code} at ${found.path === "" ? "the plan" : found.path}: ${found.message}`,
        )
        .join(" ")}`,
    };
  },
  run: async (args, { state, workspace, intentSeq, now }) => {
    if (state.workspace_root === null || intentSeq === null) {
      throw new Error("save_plan ran without its workspace or its intent");
    }
    const saved = await workspace().savePlan(
      { tenant: state.tenant, root: state.workspace_root },
      { session_id: state.session_id, seq: intentSeq, principal: state.principal },
      {
        hash: planHash(args.plan),
        text: canonicalJson(args.plan),
        title: parsePlan(args.plan).title,
      },
    );
    if (!saved.ok) return refused(saved.refusal);
    return answer(
      { ...saved.value, lint: lint(args.plan, now) },
      { context: { plan: { ...saved.value } } },
    );
  },
});

export const lintPlan = defineTool({
  name: "lint_plan",
  title: "Lint a plan",
  description: "Checks a plan, given here or saved before, and says what would have to change.",
  roles: ["antigravity", "windsurf"],
  record: "call",
  input: z
    .strictObject({ plan: planObject.optional(), plan_hash: hash.optional() })
    .refine(
      (args) => (args.plan === undefined) !== (args.plan_hash === undefined),
      "give either plan or plan_hash",
    ),
  output: lintReport,
  needsWorkspace: (args) => args.plan_hash !== undefined,
  run: async (args, { state, workspace, now }) => {
    if (args.plan_hash === undefined) return answer(lint(args.plan ?? {}, now));
    const saved = await workspace().plan(state.workspace_root ?? "", args.plan_hash);
    return saved.ok ? answer(lint(JSON.parse(saved.value.plan), now)) : refused(saved.refusal);
  },
});

export const listPlans = defineTool({
  name: "list_plans",
  title: "List plans",
  description: "Lists the plans of this workspace with their states.",
  roles: ["antigravity", "windsurf"],
  record: "call",
  input: z.strictObject({
    status: status.optional().describe("Only plans in this state."),
    cursor: z.string().optional().describe("next_cursor of the page before."),
  }),
  output: z.object({
    plans: z.array(
      z.object({
        plan_hash: z.string(),
        title: z.string(),
        status,
        scope: z.record(z.string(), z.unknown()),
        approved_by: z.string().nullable(),
        approved_at: z.string().nullable(),
        expires_at: z.string().nullable(),
      }),
    ),
    next_cursor: z.string().nullable(),
  }),
  needsWorkspace: true,
  run: async (args, { workspace }) => {
    const after = decodeCursor(args.cursor);
    if (!after.ok) return refused(after.refusal);
    const { plans, more } = await workspace().plans({
      status: args.status ?? null,
      after: after.value,
      limit: LIST_LIMIT,
    });
    const last = more ? plans.at(-1) : undefined;
    return answer({
      plans,
      next_cursor: last === undefined ? null : encodeCursor(last.plan_hash),
    });
  },
});

export const readPlan = defineTool({
  name: "read_plan",
  title: "Read a plan",
  description: "Reads one plan of this workspace, whole, with its state.",
  roles: ["antigravity", "windsurf"],
  record: "call",
  input: z.strictObject({ plan_hash: hash }),
  output: z.object({
    plan_hash: z.string(),
    status,
    plan: z.record(z.string(), z.unknown()),
  }),
  needsWorkspace: true,
  run: async (args, { state, workspace }) => {
    const found = await workspace().plan(state.workspace_root ?? "", args.plan_hash);
    if (!found.ok) return refused(found.refusal);
    const { plan_hash, plan } = found.value;
    return answer({ plan_hash, status: found.value.status, plan: JSON.parse(plan) });
  },
});
