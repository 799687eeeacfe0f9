/**
 * @module
 * Legal holds, as an operator sets and lifts them.
 */
import * as z from "zod";
import { addHold, type LegalHold, listHolds, readHold, removeHold } from "../archive/holds.ts";
import { HttpRefusal } from "../edge/refusal.ts";
import type { JsonObject } from "../mcp/ijson.ts";
import { recordChange } from "../session/ambient.ts";
import { encodeCursor } from "../tools/cursor.ts";
import { reasonText, sessionIdText } from "./archive-input.ts";
import { defineRoute, nextCursor, pageQuery, placeOf, tenantName } from "./route.ts";

const hold = z.object({
  id: z.string(),
  tenant: z.string(),
  session_id: z.string().nullable(),
  reason: z.string(),
  created_at: z.string(),
  created_by: z.string(),
});

export const listLegalHolds = defineRoute({
  method: "get",
  path: "/legal-holds",
  summary: "List legal holds",
  query: z.strictObject(pageQuery),
  answer: z.object({ legal_holds: z.array(hold), next_cursor: nextCursor }),
  run: async ({ env, query }) => {
    const [after = ""] = placeOf(query.cursor, /^[0-9a-f-]{36}$/) ?? [];
    const rows = await listHolds(env.ARCHIVE_DB, after, query.limit + 1);
    const page = rows.slice(0, query.limit);
    const last = rows.length > query.limit ? page.at(-1) : undefined;
    return {
      legal_holds: page.map(jsonOf),
      next_cursor: last === undefined ? null : encodeCursor(last.id),
    };
  },
});

export const createLegalHold = defineRoute({
  method: "post",
  path: "/legal-holds",
  summary: "Keep a tenant's sessions, or one of them, from retention and erasure",
  body: z.strictObject({
    tenant: tenantName.default("default"),
    session_id: sessionIdText.optional(),
    reason: reasonText,
  }),
  status: 201,
  answer: hold,
  run: async ({ env, body, operator, requestId, now, sent }) => {
    const made: LegalHold = {
      id: crypto.randomUUID(),
      tenant: body.tenant,
      session_id: body.session_id ?? null,
      reason: body.reason,
      created_at: new Date(now).toISOString(),
      created_by: operator.id,
    };
    const context = { action: "legal_hold.create", legal_hold: jsonOf(made) };
    await recordChange(
      env,
      operator,
      { event: "admin", request_id: requestId, args: sent, context },
      () => addHold(env.ARCHIVE_DB, made),
      () => ({ result: "ok", context }),
    );
    return jsonOf(made);
  },
});

export const deleteLegalHold = defineRoute({
  method: "delete",
  path: "/legal-holds/:id",
  summary: "Lift a legal hold",
  params: z.strictObject({ id: z.string() }),
  status: 204,
  run: async ({ env, params, operator, requestId }) => {
    const known = await readHold(env.ARCHIVE_DB, params.id);
    if (known === null) throw new HttpRefusal(404, "NOT_FOUND", "There is no such legal hold.");
    const context = { action: "legal_hold.delete", legal_hold: jsonOf(known) };
    await recordChange(
      env,
      operator,
      { event: "admin", request_id: requestId, context },
      () => removeHold(env.ARCHIVE_DB, params.id),
      () => ({ result: "ok", context }),
    );
    return null;
  },
});

function jsonOf({ id, tenant, session_id, reason, created_at, created_by }: LegalHold): JsonObject {
  return { id, tenant, session_id, reason, created_at, created_by };
}
