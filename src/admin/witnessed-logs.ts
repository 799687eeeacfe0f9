/**
 * @module
 * Whose checkpoints this gateway cosigns. A log that changes its key is
 * registered with both for a while.
 */
import { and, asc, eq, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/d1";
import * as z from "zod";
import { witnessedLogs } from "../db/d1.ts";
import { HttpRefusal } from "../edge/refusal.ts";
import { ED25519, isKeyName, parseVkey } from "../log/note.ts";
import type { JsonObject } from "../mcp/ijson.ts";
import { recordChange } from "../session/ambient.ts";
import { encodeCursor } from "../tools/cursor.ts";
import { type AdminCall, defineRoute, nextCursor, pageQuery, placeOf } from "./route.ts";

/** Registrations in all: each may be asked for by anybody. */
const MAX_LOGS = 1_000;

const origin = z.string().max(256).refine(isKeyName, "must be the origin of a log");
const shown = z.object({
  origin: z.string(),
  vkey: z.string(),
  added_at: z.string(),
  added_by: z.string(),
});

export const listWitnessedLogs = defineRoute({
  method: "get",
  path: "/witnessed-logs",
  summary: "List the logs whose checkpoints this gateway cosigns",
  query: z.strictObject(pageQuery),
  answer: z.object({ logs: z.array(shown), next_cursor: nextCursor }),
  run: async ({ env, query }) => {
    const [, origin = "", vkey = ""] = placeOf(query.cursor, PLACE) ?? [];
    const { origin: byOrigin, vkey: byVkey } = witnessedLogs;
    const rows = await drizzle(env.ARCHIVE_DB)
      .select()
      .from(witnessedLogs)
      .where(sql`(${byOrigin}, ${byVkey}) > (${origin}, ${vkey})`)
      .orderBy(asc(byOrigin), asc(byVkey))
      .limit(query.limit + 1);
    const logs = rows.slice(0, query.limit);
    const last = rows.length > query.limit ? logs.at(-1) : undefined;
    return {
      logs,
      next_cursor: last === undefined ? null : encodeCursor(`${last.origin} ${last.vkey}`),
    };
  },
});

/** Origin and key of the last log of a page; neither holds a space. */
const PLACE = /^(\S+) (\S+)$/;

export const addWitnessedLog = defineRoute({
  method: "post",
  path: "/witnessed-logs",
  summary: "Cosign the checkpoints of a log from now on",
  body: z.strictObject({ origin, vkey: z.string().max(1024) }),
  status: 201,
  answer: shown,
  run: async (call) => {
    const { body, env, now, operator } = call;
    const key = parseVkey(body.vkey);
    if (key?.type !== ED25519 || key.name !== body.origin) {
      throw new HttpRefusal(
        400,
        "INVALID_ARGUMENT",
        "vkey: must be an Ed25519 key whose name is the origin.",
      );
    }
    const row = { ...body, added_at: new Date(now).toISOString(), added_by: operator.id };
    const db = drizzle(env.ARCHIVE_DB);
    if ((await db.$count(witnessedLogs)) >= MAX_LOGS) {
      throw new HttpRefusal(409, "CONFLICT", `At most ${MAX_LOGS} logs are witnessed.`);
    }
    await recordLogChange(call, "witnessed_log.add", body, async () => {
      await db.insert(witnessedLogs).values(row).onConflictDoNothing();
    });
    const [stored] = await db
      .select()
      .from(witnessedLogs)
      .where(and(eq(witnessedLogs.origin, row.origin), eq(witnessedLogs.vkey, row.vkey)));
    return stored ?? row;
  },
});

export const removeWitnessedLog = defineRoute({
  method: "delete",
  path: "/witnessed-logs/:origin",
  summary: "Cosign no more checkpoints of a log; what was cosigned is remembered",
  params: z.strictObject({ origin }),
  status: 204,
  run: async (call) => {
    const { env, params } = call;
    const db = drizzle(env.ARCHIVE_DB);
    const rows = await db
      .select()
      .from(witnessedLogs)
      .where(eq(witnessedLogs.origin, params.origin));
    if (rows.length === 0) {
      throw new HttpRefusal(404, "NOT_FOUND", "There is no such log here.");
    }
    await recordLogChange(call, "witnessed_log.remove", { origin: params.origin }, async () => {
      await db.delete(witnessedLogs).where(eq(witnessedLogs.origin, params.origin));
    });
    return null;
  },
});

function recordLogChange(
  call: Pick<AdminCall<unknown, unknown, unknown>, "env" | "operator" | "requestId" | "sent">,
  action: string,
  log: JsonObject,
  change: () => Promise<void>,
): Promise<void> {
  const context = { action, log };
  return recordChange(
    call.env,
    call.operator,
    { event: "admin", request_id: call.requestId, args: call.sent, context },
    change,
    () => ({ result: "ok", context }),
  );
}
