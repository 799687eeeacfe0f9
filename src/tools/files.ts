/**
 * @module
 * The tools that read and change the files of a workspace.
 */
import * as z from "zod";
import type { JsonObject } from "../audit/record.ts";
import type { Decision, Refusal } from "../policy/errors.ts";
import { checkPath, checkPrefix } from "../policy/paths.ts";
import type { Approval, Effect, Origin } from "../workspace/types.ts";
import { decodeCursor, encodeCursor } from "./cursor.ts";
import { answer, defineTool, refused, type ToolContext } from "./tool.ts";

const LIST_PAGE = 200;

const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "must be 64 lowercase hex digits");
const expectedSha256 = z
  .union(
    [sha256, z.literal("")],
    'must be 64 lowercase hex digits, or "" for a file that must not exist yet',
  )
  .optional()
  .describe('SHA-256 that the file must have now; "" when it must not exist yet.');
const planHash = sha256.optional().describe("The approved plan; the session's own when left out.");
const path = z.string().describe("Relative to the workspace root, with / between segments.");
const encoding = z.enum(["utf-8", "base64"]);

export const readFile = defineTool({
  name: "read_file",
  title: "Read a file",
  description: "Reads one file of the workspace that begin_session named.",
  roles: ["antigravity", "windsurf"],
  record: "call",
  input: z.strictObject({ path }),
  output: z.object({
    path: z.string(),
    content: z.string(),
    encoding,
    sha256: z.string(),
    bytes: z.int(),
    version: z.int(),
  }),
  needsWorkspace: true,
  check: (args) => refusalOf(checkPath(args.path)),
  run: async (args, { state, workspace }) => {
    const read = await workspace().read(state.tenant, args.path, state.plan_hash);
    return read.ok ? answer(read.value) : refused(read.refusal);
  },
});

export const listFiles = defineTool({
  name: "list_files",
  title: "List files",
  description: `Lists the files of the workspace by path, ${LIST_PAGE} at a time.`,
  roles: ["antigravity", "windsurf"],
  record: "call",
  input: z.strictObject({
    prefix: z.string().optional().describe("Only paths that begin with this."),
    cursor: z.string().optional().describe("next_cursor of the page before."),
  }),
  output: z.object({
    files: z.array(
      z.object({
        path: z.string(),
        sha256: z.string(),
        bytes: z.int(),
        version: z.int(),
        updated_at: z.string(),
      }),
    ),
    next_cursor: z.string().nullable(),
  }),
  needsWorkspace: true,
  check: (args) => {
    const prefix = refusalOf(checkPrefix(args.prefix ?? ""));
    return prefix ?? refusalOf(decodeCursor(args.cursor));
  },
  run: async (args, { state, workspace }) => {
    const after = decodeCursor(args.cursor);
    if (!after.ok) return refused(after.refusal);
    const { files, next } = await workspace().list(
      args.prefix ?? "",
      after.value,
      LIST_PAGE,
      state.plan_hash,
    );
    return answer({ files, next_cursor: next === null ? null : encodeCursor(next) });
  },
});

export const writeFile = defineTool({
  name: "write_file",
  title: "Write a file",
  description:
    "Writes a whole file within an approved plan. The old version is kept. Writing what is there already changes nothing.",
  roles: ["windsurf"],
  record: "effect",
  contentKeys: ["content"],
  destructive: true,
  input: z
    .strictObject({
      path,
      content: z.string(),
      encoding: encoding.optional().describe("utf-8 when left out."),
      plan_hash: planHash,
      expected_sha256: expectedSha256,
    })
    .refine((args) => args.encoding !== "base64" || isBase64(args.content), {
      path: ["content"],
      error: "must be base64 with padding (RFC 4648)",
    }),
  output: z.object({
    path: z.string(),
    sha256: z.string(),
    bytes: z.int(),
    version: z.int(),
    plan_hash: z.string(),
  }),
  needsWorkspace: true,
  planHash: (args) => args.plan_hash ?? null,
  check: (args, context) => refusalOf(checkPath(args.path)) ?? planGiven(args.plan_hash, context),
  run: async (args, context) => {
    const change = changeOf("write_file", args, context);
    const written = await context.workspace().write({
      ...change,
      content: args.content,
      encoding: args.encoding ?? "utf-8",
    });
    if (!written.ok) return refused(written.refusal);
    const { effect, bytes, approval } = written.value;
    return answer(
      {
        path: effect.path,
        sha256: effect.sha256_after,
        bytes,
        version: effect.version,
        plan_hash: change.plan_hash,
      },
      { context: effectContext(effect, approval) },
    );
  },
});

export const deleteFile = defineTool({
  name: "delete_file",
  title: "Delete a file",
  description: "Deletes a file within an approved plan. Its versions are kept for the operator.",
  roles: ["windsurf"],
  record: "effect",
  destructive: true,
  input: z.strictObject({ path, plan_hash: planHash, expected_sha256: expectedSha256 }),
  output: z.object({ path: z.string(), version: z.int() }),
  needsWorkspace: true,
  planHash: (args) => args.plan_hash ?? null,
  check: (args, context) => refusalOf(checkPath(args.path)) ?? planGiven(args.plan_hash, context),
  run: async (args, context) => {
    const removed = await context.workspace().remove(changeOf("delete_file", args, context));
    if (!removed.ok) return refused(removed.refusal);
    const { effect, approval } = removed.value;
    return answer(
      { path: effect.path, version: effect.version },
      { context: effectContext(effect, approval) },
    );
  },
});

function refusalOf(decision: Decision<unknown>): Refusal | null {
  return decision.ok ? null : decision.refusal;
}

/** A changing call needs a plan: the call's own, else the session's. */
function planGiven(planHash: string | undefined, { state }: ToolContext): Refusal | null {
  if (planHash !== undefined || state.plan_hash !== null) return null;
  return {
    code: "PLAN_REQUIRED",
    message:
      "This call changes something and names no plan. Pass plan_hash, or bind the session to an approved plan with begin_session.",
  };
}

function changeOf(
  tool: string,
  args: { path: string; plan_hash?: string | undefined; expected_sha256?: string | undefined },
  { state, intentSeq }: ToolContext,
) {
  const plan_hash = args.plan_hash ?? state.plan_hash;
  if (plan_hash === null || state.workspace_root === null || intentSeq === null) {
    throw new Error(`${tool} ran without its plan, its workspace or its intent`);
  }
  const origin: Origin = {
    session_id: state.session_id,
    seq: intentSeq,
    principal: state.principal,
  };
  return {
    workspace: { tenant: state.tenant, root: state.workspace_root },
    origin,
    tool,
    args: Object.fromEntries(
      Object.entries(args).filter(
        (entry): entry is [string, string] => typeof entry[1] === "string",
      ),
    ),
    path: args.path,
    plan_hash,
    expected_sha256: args.expected_sha256 ?? null,
  };
}

function effectContext(effect: Effect, approval: Approval): JsonObject {
  return { effect: { ...effect }, approval: { ...approval } };
}

/** RFC 4648 with padding and nothing else, unused bits zero: decoders differ in what else they let through. */
function isBase64(text: string): boolean {
  return Buffer.from(text, "base64").toString("base64") === text;
}
