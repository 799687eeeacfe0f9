/**
 * @module
 * The tool that binds a session to a workspace, and to a plan when one is named.
 */
import * as z from "zod";
import { workspaceStub } from "../objects.ts";
import { matchesAnyRoot } from "../policy/glob.ts";
import { checkWorkspaceRoot } from "../policy/paths.ts";
import { answer, defineTool, refused } from "./tool.ts";

export const beginSession = defineTool({
  name: "begin_session",
  title: "Begin a session",
  description:
    "Names the workspace that the other tools work on and, if given, the approved plan that changes are made under. Calling it again binds the session anew.",
  roles: ["antigravity", "windsurf", "auditor"],
  record: "bind",
  input: z.strictObject({
    workspace_root: z.string().describe("A POSIX absolute path such as /srv/app."),
    plan_hash: z
      .string()
      .regex(/^[0-9a-f]{64}$/, "must be 64 lowercase hex digits")
      .optional()
      .describe("An approved plan of this workspace."),
  }),
  output: z.object({
    session_id: z.string(),
    workspace_root: z.string(),
    role: z.string(),
    plan_hash: z.string().nullable(),
    expires_at: z.string(),
  }),
  needsWorkspace: false,
  planHash: (args) => args.plan_hash ?? null,
  check: (args, { caller }) => {
    const root = checkWorkspaceRoot(args.workspace_root);
    if (!root.ok) return root.refusal;
    if (caller.workspaces === null || matchesAnyRoot(caller.workspaces, root.value)) return null;
    return {
      code: "FORBIDDEN",
      message: `This key may not work on ${root.value}. Use one of its workspaces, or ask an operator.`,
    };
  },
  run: async (args, { state, caller, env, expiresAt }) => {
    const plan_hash = args.plan_hash ?? null;
    let approval = null;
    if (plan_hash !== null) {
      const workspace = workspaceStub(env, state.tenant, args.workspace_root);
      const bindable = await workspace.bindable(plan_hash);
      if (!bindable.ok) return refused(bindable.refusal);
      approval = bindable.value.approval;
    }
    return answer(
      {
        session_id: state.session_id,
        workspace_root: args.workspace_root,
        role: caller.role,
        plan_hash,
        expires_at: new Date(expiresAt).toISOString(),
      },
      {
        bind: { workspace_root: args.workspace_root, plan_hash },
        ...(approval === null ? {} : { context: { approval: { ...approval } } }),
      },
    );
  },
});
