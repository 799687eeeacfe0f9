/**
 * @module
 * Sessions as an operator sees them: the index that each flush keeps, and
 * their end.
 */
import { and, desc, eq, isNotNull, isNull, lt } from "drizzle-orm";
import { drizzle } from "drizzle-orm/d1";
import * as z from "zod";
import { sessions } from "../db/d1.ts";
import { HttpRefusal } from "../edge/refusal.ts";
import { sessionStub } from "../objects.ts";
import { recordChange } from "../session/ambient.ts";
import { openSource } from "../session/evidence.ts";
import { encodeCursor } from "../tools/cursor.ts";
import { defineRoute, nextCursor, pageQuery, placeOf, tenantName } from "./route.ts";

const session = z.object({
  session_id: z.string(),
  tenant: z.string(),
  principal: z.string(),
  role: z.string(),
  era: z.string(),
  workspace_root: z.string().nullable(),
  plan_hash: z.string().nullable(),
  created_at: z.string(),
  last_seen_at: z.string(),
  entries: z.int(),
  head: z.string().nullable(),
  ended_at: z.string().nullable(),
});

export const listSessions = defineRoute({
  method: "get",
  path: "/sessions",
  summary: "List sessions, newest first, as of their last flush",
  query: z.strictObject({
    ...pageQuery,
    tenant: tenantName.optional(),
    active: z.enum(["true", "false"]).optional(),
  }),
  answer: z.object({ sessions: z.array(session), next_cursor: nextCursor }),
  run: async ({ env, query }) => {
    const [after] = placeOf(query.cursor, /^[0-9a-f-]{36}$/) ?? [];
    const rows = await drizzle(env.ARCHIVE_DB)
      .select({
        session_id: sessions.session_id,
        tenant: sessions.tenant,
        principal: sessions.principal,
        role: sessions.role,
        era: sessions.era,
        workspace_root: sessions.workspace_root,
        plan_hash: sessions.plan_hash,
        created_at: sessions.created_at,
        last_seen_at: sessions.last_seen_at,
        entries: sessions.entries,
        head: sessions.head,
        ended_at: sessions.ended_at,
      })
      .from(sessions)
      .where(
        and(
          query.tenant === undefined ? undefined : eq(sessions.tenant, query.tenant),
          query.active === undefined
            ? undefined
            : query.active === "true"
              ? isNull(sessions.ended_at)
              : isNotNull(sessions.ended_at),
          after === undefined ? undefined : lt(sessions.session_id, after),
        ),
      )
      // Ids begin with their time, so that this is the order of opening.
      .orderBy(desc(sessions.session_id))
      .limit(query.limit + 1);
    const page = rows.slice(0, query.limit);
    const last = rows.length > query.limit ? page.at(-1) : undefined;
    return {
      sessions: page,
      next_cursor: last === undefined ? null : encodeCursor(last.session_id),
    };
  },
});

export const endSession = defineRoute({
  method: "delete",
  path: "/sessions/:id",
  summary: "End a session",
  params: z.strictObject({ id: z.string() }),
  status: 204,
  run: async ({ env, params, operator, requestId }) => {
    const source = await openSource(env, params.id);
    if (source === null) {
      throw new HttpRefusal(404, "SESSION_NOT_FOUND", "There is no session with this id.");
    }
    if (source.session.ended_at !== null && source.session.era !== "ambient") return null;
    const context = { action: "session.end", session_id: params.id };
    const outcome = await recordChange(
      env,
      operator,
      { event: "admin", request_id: requestId, context },
      async () =>
        source.session.era === "ambient"
          ? "ambient"
          : sessionStub(env, source.session.session_id).endByOperator(requestId),
      (ended) =>
        ended === "ended"
          ? { result: "ok", context }
          : {
              result: "error",
              error_code:
                ended === "ambient"
                  ? "CONFLICT"
                  : ended === "absent"
                    ? "SESSION_NOT_FOUND"
                    : "OVERLOADED",
              context,
            },
    );
    if (outcome === "ambient") throw ambientEnds();
    if (outcome === "unsettled") {
      throw new HttpRefusal(
        503,
        "OVERLOADED",
        "A lost call of it cannot be settled yet. Try again.",
      );
    }
    return null;
  },
});

function ambientEnds(): HttpRefusal {
  return new HttpRefusal(409, "CONFLICT", "An ambient session ends with its day, not before.");
}
