/**
 * @module
 * The history of a workspace's files: every version with the session and call
 * behind it, and its content. Nothing that agents overwrote or deleted is out
 * of an operator's reach.
 */
import * as z from "zod";
import { workspaceStub } from "../objects.ts";
import { checkPath, checkWorkspaceRoot } from "../policy/paths.ts";
import { defineRoute, tenantName, unwrap } from "./route.ts";

const filesQuery = {
  workspace_root: z.string(),
  path: z.string(),
  tenant: tenantName.optional(),
};

export const fileVersions = defineRoute({
  method: "get",
  path: "/files/versions",
  summary: "Every version of a file, newest first, with the call behind it",
  query: z.strictObject(filesQuery),
  answer: z.object({
    versions: z.array(
      z.object({
        path: z.string(),
        version: z.int(),
        sha256: z.string().nullable(),
        bytes: z.int(),
        deleted: z.boolean(),
        session_id: z.string(),
        seq: z.int(),
        principal: z.string(),
        plan_hash: z.string(),
        created_at: z.string(),
      }),
    ),
  }),
  run: async ({ env, query, operator }) => {
    const root = unwrap(checkWorkspaceRoot(query.workspace_root));
    const path = unwrap(checkPath(query.path));
    const stub = workspaceStub(env, query.tenant ?? operator.tenant, root);
    return Response.json({ versions: await stub.history(path) });
  },
});

export const fileContent = defineRoute({
  method: "get",
  path: "/files/content",
  summary: "The content of one version of a file",
  query: z.strictObject({
    ...filesQuery,
    version: z
      .string()
      .regex(/^\d{1,9}$/, "must be a whole number")
      .transform(Number),
  }),
  answer: z.object({
    path: z.string(),
    content: z.string(),
    encoding: z.enum(["utf-8", "base64"]),
    sha256: z.string(),
    bytes: z.int(),
    version: z.int(),
  }),
  run: async ({ env, query, operator }) => {
    const root = unwrap(checkWorkspaceRoot(query.workspace_root));
    const path = unwrap(checkPath(query.path));
    const tenant = query.tenant ?? operator.tenant;
    const read = await workspaceStub(env, tenant, root).readVersion(tenant, path, query.version);
    return Response.json(unwrap(read));
  },
});
