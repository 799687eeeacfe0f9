/**
 * @module
 * Plans as an operator decides on them. Only here is a plan approved or
 * revoked, and each decision names its author and is recorded before and after.
 */
import * as z from "zod";
import { withoutCredential } from "../audit/redact.ts";
import type { Config } from "../config.ts";
import { HttpRefusal } from "../edge/refusal.ts";
import { workspaceStub } from "../objects.ts";
import { logEvent } from "../ops/log.ts";
import { allow, type Decision, refuse } from "../policy/errors.ts";
import { checkWorkspaceRoot } from "../policy/paths.ts";
import { PLAN_STATES, parsePlan } from "../policy/plan.ts";
import { planGrants } from "../policy/plan-grants.ts";
import { recordChange } from "../session/ambient.ts";
import { decodeCursor, encodeCursor } from "../tools/cursor.ts";
import { directoryOf, forgetDirectory } from "../upstream/directory.ts";
import type { PlanDetail, PlanSummary } from "../workspace/types.ts";
import { type AdminCall, defineRoute, nextCursor, pageQuery, tenantName, unwrap } from "./route.ts";

const hash = z.string().regex(/^[0-9a-f]{64}$/, "must be 64 lowercase hex digits");
const workspaceRoot = z.string().refine((root) => checkWorkspaceRoot(root).ok, {
  error: "must be a POSIX absolute path without a trailing /",
});
const status = z.enum(PLAN_STATES);
const reason = z.string().min(1).max(1024).optional();

const summaryFields = {
  plan_hash: z.string(),
  workspace_root: z.string(),
  tenant: z.string(),
  title: z.string(),
  status,
  scope: z.record(z.string(), z.unknown()),
  approved_by: z.string().nullable(),
  approved_at: z.string().nullable(),
  expires_at: z.string().nullable(),
};
const detail = z.object({
  ...summaryFields,
  plan: z.record(z.string(), z.unknown()),
  saved_by: z.string(),
  saved_at: z.string(),
  revoked_by: z.string().nullable(),
  revoked_at: z.string().nullable(),
  reason: z.string().nullable(),
  approvals: z.array(z.object({ by: z.string(), at: z.string(), reason: z.string().nullable() })),
  approvals_required: z.number(),
  grants: z.array(z.string()).describe("What the plan allows once it is approved, in words."),
});

export const listPlans = defineRoute({
  method: "get",
  path: "/plans",
  summary: "List plans, of one workspace or of all",
  query: z.strictObject({
    ...pageQuery,
    workspace_root: workspaceRoot.optional(),
    tenant: tenantName.optional(),
    status: status.optional(),
  }),
  answer: z.object({ plans: z.array(z.object(summaryFields)), next_cursor: nextCursor }),
  run: async ({ env, query, operator }) => {
    const { workspace_root, tenant, limit } = query;
    const workspaces =
      workspace_root === undefined
        ? await readWorkspaces(env, tenant ?? null)
        : [{ tenant: tenant ?? operator.tenant, root: workspace_root }];
    const after = parsePlace(unwrap(decodeCursor(query.cursor)));
    const page: (PlanSummary & { workspace_root: string; tenant: string })[] = [];
    let more = false;
    for (const workspace of workspaces) {
      if (after !== null && isBefore(workspace, after)) continue;
      more = page.length >= limit;
      if (more) break;
      const same = after?.tenant === workspace.tenant && after.root === workspace.root;
      const found = await workspaceStub(env, workspace.tenant, workspace.root).plans({
        status: query.status ?? null,
        after: same ? after.hash : "",
        limit: limit - page.length,
      });
      for (const plan of found.plans) {
        page.push({ ...plan, workspace_root: workspace.root, tenant: workspace.tenant });
      }
      more = found.more;
      if (more) break;
    }
    const last = more ? page.at(-1) : undefined;
    const next_cursor =
      last === undefined
        ? null
        : encodeCursor(JSON.stringify([last.tenant, last.workspace_root, last.plan_hash]));
    return Response.json({ plans: page, next_cursor });
  },
});

const hashParams = z.strictObject({ hash });

export const showPlan = defineRoute({
  method: "get",
  path: "/plans/:hash",
  summary: "Show a plan, whole, with its state",
  params: hashParams,
  query: z.strictObject({ workspace_root: workspaceRoot, tenant: tenantName.optional() }),
  answer: detail,
  run: async ({ env, config, params, query, operator }) => {
    const tenant = query.tenant ?? operator.tenant;
    const plan = await workspaceStub(env, tenant, query.workspace_root).plan(
      query.workspace_root,
      params.hash,
    );
    return shown(unwrap<PlanDetail>(plan), tenant, config);
  },
});

const decisionBody = z.strictObject({
  workspace_root: workspaceRoot,
  tenant: tenantName.optional(),
  reason,
});

export const approvePlan = defineRoute({
  method: "post",
  path: "/plans/:hash/approve",
  summary: "Approve a plan for this workspace; the answer says what that grants",
  params: hashParams,
  body: decisionBody,
  answer: detail,
  run: async (call) => {
    const pins = await upstreamPins(call.env, call.body.tenant ?? call.operator.tenant);
    return decide(call, "plan.approve", async (workspace, root) => {
      const { hash } = call.params;
      const allowed = await mayApprove(call, await workspace.plan(root, hash));
      if (!allowed.ok) return allowed;
      return workspace.approve(root, hash, call.operator.id, call.body.reason ?? null, pins);
    });
  },
});

/**
 * The two-person rule, where it is on: nobody approves what came in under a
 * credential that they gave out themselves, for they may hold it: a key, or a
 * client certificate, also one that is not bound any more.
 */
async function mayApprove(
  {
    env,
    config,
    operator,
  }: Pick<AdminCall<unknown, unknown, unknown>, "env" | "config" | "operator">,
  plan: Decision<PlanDetail>,
): Promise<Decision> {
  if (!plan.ok) return plan;
  if (config.planApprovalsRequired < 2) return allow();
  const { saved_by: principal } = plan.value;
  const line = /^key:(.+)$/.exec(principal)?.[1] ?? null;
  const given = await env.ARCHIVE_DB.prepare(
    `SELECT 1 FROM api_keys WHERE line = ?1 AND minted_by = ?3
     UNION ALL
     SELECT 1 FROM client_certificates WHERE (line = ?1 OR principal = ?2) AND created_by = ?3
     LIMIT 1`,
  )
    .bind(line, principal, operator.id)
    .first();
  return given === null
    ? allow()
    : refuse(
        "FORBIDDEN",
        "This plan was saved under a key or a client certificate that you gave out. Two other operators have to approve it.",
      );
}

export const revokePlan = defineRoute({
  method: "post",
  path: "/plans/:hash/revoke",
  summary: "Revoke a plan: the next change under it is refused",
  params: hashParams,
  body: decisionBody,
  answer: detail,
  run: (call) =>
    decide(call, "plan.revoke", (workspace, root) =>
      workspace.revoke(root, call.params.hash, call.operator.id, call.body.reason ?? null),
    ),
});

async function decide(
  call: AdminCall<{ hash: string }, unknown, z.output<typeof decisionBody>>,
  action: string,
  move: (
    workspace: ReturnType<typeof workspaceStub>,
    root: string,
  ) => Promise<Decision<PlanDetail>>,
): Promise<Response> {
  const { env, config, operator, params, body, requestId } = call;
  const tenant = body.tenant ?? operator.tenant;
  const context = {
    action,
    plan: { plan_hash: params.hash, workspace_root: body.workspace_root, tenant },
    reason: body.reason === undefined ? null : withoutCredential(body.reason),
  };
  const decided = await recordChange<Decision<PlanDetail>>(
    env,
    operator,
    {
      event: "admin",
      plan_hash: params.hash,
      workspace_root: body.workspace_root,
      request_id: requestId,
      args: call.sent,
      context,
    },
    () => move(workspaceStub(env, tenant, body.workspace_root), body.workspace_root),
    (outcome) =>
      outcome.ok
        ? {
            result: "ok",
            context: {
              ...context,
              status: outcome.value.status,
              approvals: outcome.value.approvals.map(({ by }) => by),
            },
          }
        : { result: "error", error_code: outcome.refusal.code, context },
  );
  return shown(unwrap(decided), tenant, config);
}

/**
 * Pins of the upstream tools that a plan of the tenant may name, as they are
 * approved now: the operator may have approved a tool a moment ago, elsewhere.
 */
async function upstreamPins(env: Env, tenant: string): Promise<Record<string, string>> {
  forgetDirectory();
  try {
    return (await directoryOf(env)).pins(tenant);
  } catch (error) {
    logEvent("error", "directory_unreadable", { error: String(error) });
    throw new HttpRefusal(
      503,
      "OVERLOADED",
      "The registry of upstreams cannot be read, so that the approval could not keep their pins. Try again.",
    );
  }
}

/** The plan as JSON text goes into the answer as it is stored. */
function shown(plan: PlanDetail, tenant: string, config: Config): Response {
  const { plan: text, ...rest } = plan;
  const value: unknown = JSON.parse(text);
  return Response.json({
    ...rest,
    tenant,
    plan: value,
    approvals_required: config.planApprovalsRequired,
    grants: planGrants(parsePlan(value), plan.workspace_root),
  });
}

type Workspace = { tenant: string; root: string };

async function readWorkspaces(env: Env, tenant: string | null): Promise<Workspace[]> {
  const { results } = await env.ARCHIVE_DB.prepare(
    "SELECT tenant, root FROM workspaces WHERE ?1 IS NULL OR tenant = ?1 ORDER BY tenant, root",
  )
    .bind(tenant)
    .all<Workspace>();
  return results;
}

const place = z.tuple([z.string(), z.string(), z.string()]);

function parsePlace(text: string): (Workspace & { hash: string }) | null {
  if (text === "") return null;
  try {
    const [tenant, root, planHash] = place.parse(JSON.parse(text));
    return { tenant, root, hash: planHash };
  } catch {
    throw new HttpRefusal(
      400,
      "INVALID_ARGUMENT",
      "cursor: must be a next_cursor of an earlier answer.",
    );
  }
}

/** In the order of D1, which compares the bytes of UTF-8. */
function isBefore(workspace: Workspace, other: Workspace): boolean {
  const tenant = Buffer.compare(Buffer.from(workspace.tenant), Buffer.from(other.tenant));
  return tenant === 0
    ? Buffer.compare(Buffer.from(workspace.root), Buffer.from(other.root)) < 0
    : tenant < 0;
}
