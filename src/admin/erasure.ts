/**
 * @module
 * Erasure of a session's arguments, at an operator's wish.
 */
import * as z from "zod";
import { eraseSession } from "../archive/erasure.ts";
import { openArchive } from "../archive/open.ts";
import { HttpRefusal } from "../edge/refusal.ts";
import { recordChange } from "../session/ambient.ts";
import { reasonText } from "./archive-input.ts";
import { defineRoute } from "./route.ts";

const REFUSALS = {
  absent: new HttpRefusal(404, "SESSION_NOT_FOUND", "There is no session with this id."),
  held: new HttpRefusal(409, "CONFLICT", "A legal hold covers this session."),
  live: new HttpRefusal(
    409,
    "CONFLICT",
    "The session is live, or not archived to its end yet. End it, and try again when it is.",
  ),
} as const;

export const erase = defineRoute({
  method: "post",
  path: "/audit/sessions/:id/erase",
  summary: "Erase the arguments of a session, for good; its chain stays whole",
  params: z.strictObject({ id: z.string() }),
  body: z.strictObject({ reason: reasonText }),
  answer: z.object({
    session_id: z.string(),
    tenant: z.string(),
    entries: z.int(),
    head: z.string().nullable(),
  }),
  run: async ({ env, params, operator, requestId, now, sent }) => {
    const context = { action: "session.erase", session_id: params.id };
    const outcome = await recordChange(
      env,
      operator,
      { event: "admin", request_id: requestId, args: sent, context },
      () => eraseSession(env, openArchive(env), params.id, now),
      (result) =>
        result.kind === "erased"
          ? { result: "ok", context: { ...context, tenant: result.session.tenant } }
          : {
              result: "error",
              error_code: result.kind === "absent" ? "SESSION_NOT_FOUND" : "CONFLICT",
              context,
            },
    );
    if (outcome.kind !== "erased") throw REFUSALS[outcome.kind];
    const { session_id, tenant, entries, head } = outcome.session;
    return { session_id, tenant, entries, head };
  },
});
