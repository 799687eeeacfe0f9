/**
 * @module
 * The evidence as an operator asks for it: queries over the archive, and a whole
 * session as NDJSON.
 */
import * as z from "zod";
import type { EntryPlace } from "../archive/archive.ts";
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
  run: async ({ archive, query }) => {
    const rows = await archive().entries({
      ...query,
      since: utc(query.since),
      until: utc(query.until),
      after: entryPlace(query.cursor),
      limit: query.limit + 1,
    });
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

function utc(time: string | undefined): string | undefined {
  return time === undefined ? undefined : new Date(time).toISOString();
}

/** Timestamp, session id and seq of the last entry of a page. */
const PLACE =
  /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) (\d{1,9})$/;

function entryPlace(cursor: string | undefined): EntryPlace | null {
  const [, timestamp = "", session_id = "", seq] = placeOf(cursor, PLACE) ?? [];
  if (seq === undefined) return null;
  if (Number.isNaN(Date.parse(timestamp))) {
    throw new HttpRefusal(400, "INVALID_ARGUMENT", "cursor: names no time.");
  }
  return { timestamp, session_id, seq: Number(seq) };
}
