/**
 * @module
 * The evidence as an operator asks for it: queries over the archive, and a whole
 * session as NDJSON.
 */
import { and, desc, eq, gte, lte, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/d1";
import * as z from "zod";
import { auditLog } from "../db/d1.ts";
import { HttpRefusal } from "../edge/refusal.ts";
import { type AuditSource, exportedLine, openSource, PAGE_RECORDS } from "../session/evidence.ts";
import { encodeCursor } from "../tools/cursor.ts";
import { defineRoute, nextCursor, pageQuery, placeOf } from "./route.ts";

const instant = z.iso.datetime({ offset: true, error: "must be an RFC 3339 time with its zone" });
const hash = z.string().regex(/^[0-9a-f]{64}$/, "must be 64 lowercase hex digits");
const anyRecord = z.record(z.string(), z.unknown());

export const queryAudit = defineRoute({
  method: "get",
  path: "/audit",
  summary: "Search the archive, newest first",
  query: z.strictObject({
    ...pageQuery,
    session_id: z.string().optional(),
    tool: z.string().optional(),
    role: z.string().optional(),
    result: z.enum(["ok", "error", "pending", "input_required"]).optional(),
    error_code: z.string().optional(),
    plan_hash: hash.optional(),
    since: instant.optional(),
    until: instant.optional(),
  }),
  answer: z.object({ entries: z.array(anyRecord), next_cursor: nextCursor }),
  run: async ({ env, query }) => {
    const after = placeOf(query.cursor, PLACE);
    const rows = await drizzle(env.ARCHIVE_DB)
      .select({
        session_id: auditLog.session_id,
        timestamp: auditLog.timestamp,
        seq: auditLog.seq,
        line: auditLog.line,
        hash_chain: auditLog.hash_chain,
        args: auditLog.args,
        salt: auditLog.salt,
      })
      .from(auditLog)
      .where(
        and(
          query.session_id === undefined ? undefined : eq(auditLog.session_id, query.session_id),
          query.tool === undefined ? undefined : eq(auditLog.tool, query.tool),
          query.role === undefined ? undefined : eq(auditLog.role, query.role),
          query.result === undefined ? undefined : eq(auditLog.result, query.result),
          query.error_code === undefined ? undefined : eq(auditLog.error_code, query.error_code),
          query.plan_hash === undefined ? undefined : eq(auditLog.plan_hash, query.plan_hash),
          query.since === undefined ? undefined : gte(auditLog.timestamp, utc(query.since)),
          query.until === undefined ? undefined : lte(auditLog.timestamp, utc(query.until)),
          after === null ? undefined : before(after),
        ),
      )
      .orderBy(desc(auditLog.timestamp), desc(auditLog.session_id), desc(auditLog.seq))
      .limit(query.limit + 1);
    const page = rows.slice(0, query.limit);
    const last = rows.length > query.limit ? page.at(-1) : undefined;
    const next =
      last === undefined ? null : encodeCursor(`${last.timestamp} ${last.session_id} ${last.seq}`);
    // Lines go out as they are stored: what an operator reads is what was hashed.
    return new Response(
      `{"entries":[${page.map(exportedLine).join(",")}],"next_cursor":${JSON.stringify(next)}}`,
      { headers: { "content-type": "application/json" } },
    );
  },
});

const sessionParams = z.strictObject({ id: z.string() });

export const exportSession = defineRoute({
  method: "get",
  path: "/audit/sessions/:id",
  summary: "Every record of a session, in order, one a line",
  params: sessionParams,
  answer: "application/x-ndjson",
  run: async ({ env, params }) => {
    const lines = ndjson(await source(env, params.id));
    return new Response(lines, { headers: { "content-type": "application/x-ndjson" } });
  },
});

async function source(env: Env, id: string): Promise<AuditSource> {
  const found = await openSource(env, id);
  if (found === null) {
    throw new HttpRefusal(404, "SESSION_NOT_FOUND", "There is no session with this id.");
  }
  return found;
}

/** Pages of lines as the reader asks for them: a long session is never in memory whole. */
function ndjson(records: AuditSource): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let after = 0;
  return new ReadableStream({
    async pull(controller) {
      const page = await records.page(after, PAGE_RECORDS);
      if (page.length > 0) {
        controller.enqueue(
          encoder.encode(page.map((stored) => `${exportedLine(stored)}\n`).join("")),
        );
      }
      after = page.at(-1)?.seq ?? after;
      if (page.length < PAGE_RECORDS) controller.close();
    },
  });
}

function utc(time: string): string {
  return new Date(time).toISOString();
}

/** Timestamp, session id and seq of the last entry of a page. */
const PLACE = /^([0-9TZ:.-]{24}) ([0-9a-f-]{36}) (\d{1,15})$/;

function before([, timestamp, sessionId, seq]: RegExpExecArray) {
  return sql`(${auditLog.timestamp}, ${auditLog.session_id}, ${auditLog.seq})
    < (${timestamp ?? ""}, ${sessionId ?? ""}, ${Number(seq)})`;
}
