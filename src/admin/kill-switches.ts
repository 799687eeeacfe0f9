/**
 * @module
 * Kill switches as an operator engages and lifts them. Each is recorded before
 * and after, with who and why; a session's own is sent to its object at once,
 * all others reach every isolate within seconds.
 */
import * as z from "zod";
import { withoutCredential } from "../audit/redact.ts";
import { HttpRefusal } from "../edge/refusal.ts";
import type { JsonObject } from "../mcp/ijson.ts";
import { sessionStub } from "../objects.ts";
import { nextVersion, renewSwitches } from "../ops/kill-switches.ts";
import { logEvent } from "../ops/log.ts";
import { type KillScope, killScopeSchema } from "../policy/kill-switch.ts";
import { recordChange } from "../session/ambient.ts";
import { isMintedSessionId, looksAmbient } from "../session/ids.ts";
import { encodeCursor } from "../tools/cursor.ts";
import { type AdminCall, defineRoute, nextCursor, pageQuery, placeOf } from "./route.ts";

/** Switches that stand at a time: each session holds those that concern it. */
const MAX_ENGAGED = 100;

const reason = z.string().min(1).max(1024);

const shape = z.object({
  id: z.string(),
  scope: killScopeSchema,
  reason: z.string(),
  engaged_by: z.string(),
  engaged_at: z.string(),
  lifted_by: z.string().nullable(),
  lifted_at: z.string().nullable(),
  lift_reason: z.string().nullable(),
});

type Row = Omit<z.infer<typeof shape>, "scope"> & { scope: string };

export const listKillSwitches = defineRoute({
  method: "get",
  path: "/kill-switches",
  summary:
    "List the kill switches that stand, newest first; with lifted=true, those that were lifted",
  query: z.strictObject({ ...pageQuery, lifted: z.enum(["true", "false"]).default("false") }),
  answer: z.object({ kill_switches: z.array(shape), next_cursor: nextCursor }),
  run: async ({ env, query }) => {
    const [, at = null, id = null] = placeOf(query.cursor, PLACE) ?? [];
    const { results } = await env.ARCHIVE_DB.prepare(
      `SELECT * FROM kill_switches
       WHERE (lifted_at IS NOT NULL) = ?1 AND (?2 IS NULL OR (engaged_at, id) < (?2, ?3))
       ORDER BY engaged_at DESC, id DESC LIMIT ?4`,
    )
      .bind(query.lifted === "true" ? 1 : 0, at, id, query.limit + 1)
      .all<Row>();
    const page = results.slice(0, query.limit);
    const last = results.length > query.limit ? page.at(-1) : undefined;
    return {
      kill_switches: page.map(shown),
      next_cursor: last === undefined ? null : encodeCursor(`${last.engaged_at} ${last.id}`),
    };
  },
});

/** Time and id of the last switch of a page. */
const PLACE = /^([0-9TZ:.-]{24}) ([0-9a-f-]{36})$/;

export const engageKillSwitch = defineRoute({
  method: "post",
  path: "/kill-switches",
  summary: "Stop what the scope covers, everywhere within 5 s; an empty scope stops everything",
  body: z.strictObject({ scope: killScopeSchema, reason }),
  status: 201,
  answer: shape,
  run: async (call) => {
    const { body, operator, now } = call;
    const { scope } = body;
    if (scope.session_id !== undefined) requirePossibleSession(call, scope.session_id);
    const row: Row = {
      id: crypto.randomUUID(),
      scope: JSON.stringify(scope),
      reason: withoutCredential(body.reason),
      engaged_by: operator.id,
      engaged_at: new Date(now).toISOString(),
      lifted_by: null,
      lifted_at: null,
      lift_reason: null,
    };
    const engaged = await recordSwitch(call, "kill_switch.engage", row, () =>
      changed(call, scope, (db) =>
        db
          .prepare(
            `INSERT INTO kill_switches (id, scope, reason, engaged_by, engaged_at)
             SELECT ?1, ?2, ?3, ?4, ?5
             WHERE (SELECT count(*) FROM kill_switches WHERE lifted_at IS NULL) < ${MAX_ENGAGED}`,
          )
          .bind(row.id, row.scope, row.reason, row.engaged_by, row.engaged_at),
      ),
    );
    if (!engaged) {
      throw new HttpRefusal(
        409,
        "CONFLICT",
        `${MAX_ENGAGED} kill switches stand already. Engage a wider one, or lift some.`,
      );
    }
    return shown(row);
  },
});

export const liftKillSwitch = defineRoute({
  method: "delete",
  path: "/kill-switches/:id",
  summary: "Lift a kill switch",
  params: z.strictObject({ id: z.string() }),
  query: z.strictObject({ reason }),
  status: 204,
  run: async (call) => {
    const { env, params, query, operator, now } = call;
    const row = await env.ARCHIVE_DB.prepare("SELECT * FROM kill_switches WHERE id = ?")
      .bind(params.id)
      .first<Row>();
    if (row === null) {
      throw new HttpRefusal(404, "NOT_FOUND", "There is no kill switch with this id.");
    }
    if (row.lifted_at !== null) return null;
    const lifted = {
      ...row,
      lifted_by: operator.id,
      lifted_at: new Date(now).toISOString(),
      lift_reason: withoutCredential(query.reason),
    };
    await recordSwitch(call, "kill_switch.lift", lifted, () =>
      changed(call, shown(row).scope, (db) =>
        db
          .prepare(
            `UPDATE kill_switches SET lifted_by = ?2, lifted_at = ?3, lift_reason = ?4
             WHERE id = ?1 AND lifted_at IS NULL`,
          )
          .bind(row.id, lifted.lifted_by, lifted.lifted_at, lifted.lift_reason),
      ),
    );
    return null;
  },
});

type Call = Pick<
  AdminCall<unknown, unknown, unknown>,
  "env" | "config" | "operator" | "requestId" | "sent" | "now"
>;

/** Only ids that the gateway may have given out: the switch is sent to the session's object. */
function requirePossibleSession({ config }: Call, sessionId: string): void {
  if (isMintedSessionId(config.sessionIdKey, sessionId) || looksAmbient(sessionId)) return;
  throw new HttpRefusal(404, "SESSION_NOT_FOUND", "scope.session_id: there is no such session.");
}

/** Makes the change, and sees to it that it is effective here and in the session that it names. False when it was not made. */
async function changed(
  { env, config, now }: Call,
  scope: KillScope,
  statement: (db: D1Database) => D1PreparedStatement,
): Promise<boolean> {
  const db = env.ARCHIVE_DB;
  const [change] = await db.batch([statement(db), nextVersion(db, now)]);
  const set = await renewSwitches(env);
  // An ambient session may not be there yet; its next call brings the switch along.
  if (scope.session_id !== undefined && isMintedSessionId(config.sessionIdKey, scope.session_id)) {
    try {
      if (set === null) throw new Error("the switches cannot be read");
      await sessionStub(env, scope.session_id).noteSwitches(set);
    } catch (error) {
      // Its next call, or the watch on its streams, brings the switch within 5 s all the same.
      logEvent("warn", "kill_switch_not_sent", {
        session_id: scope.session_id,
        error: String(error),
      });
    }
  }
  return (change?.meta.changes ?? 0) > 0;
}

function recordSwitch(
  { env, operator, requestId, sent }: Call,
  action: string,
  row: Row,
  change: () => Promise<boolean>,
): Promise<boolean> {
  const context = {
    action,
    kill_switch: { id: row.id, scope: { ...shown(row).scope } },
    reason: row.lift_reason ?? row.reason,
  } satisfies JsonObject;
  return recordChange(
    env,
    operator,
    { event: "admin", request_id: requestId, args: sent, context },
    change,
    (done) =>
      done ? { result: "ok", context } : { result: "error", error_code: "CONFLICT", context },
  );
}

function shown(row: Row): z.infer<typeof shape> {
  return { ...row, scope: killScopeSchema.parse(JSON.parse(row.scope)) };
}
