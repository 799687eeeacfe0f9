/**
 * @module
 * Sessions as an operator sees them: the index that each flush keeps, and
 * their end.
 */
import * as z from "zod";
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
  run: async ({ archive, query }) => {
    const [after] = placeOf(query.cursor, /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/) ?? [];
    const rows = await archive().sessions({
      tenant: query.tenant,
      active: query.active === undefined ? undefined : query.active === "true",
      before: after,
      limit: query.limit + 1,
    });
    const page = rows.slice(0, query.limit);
    const last = rows.length > query.limit ? page.at(-1) : undefined;
    return {
      // The wrapped key stays here.
      sessions: page.map(({ wrapped_key: _, erased_at: __, retired_at: ___, ...row }) => row),
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
