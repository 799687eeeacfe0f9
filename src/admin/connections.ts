/**
 * @module
 * The connection log as an operator reads it, newest first.
 */
import * as z from "zod";
import { OUTCOMES } from "../ops/connections/connection.ts";
import { encodeCursor } from "../tools/cursor.ts";
import { defineRoute, nextCursor, pageQuery, placeOf } from "./route.ts";

const connection = z.object({
  id: z.string(),
  at: z.string(),
  outcome: z.enum(OUTCOMES),
  reason: z.string(),
  status: z.number(),
  principal: z.string().nullable(),
  address: z.string().nullable(),
  colo: z.string().nullable(),
  tls_version: z.string().nullable(),
  user_agent: z.string().nullable(),
  request_id: z.string(),
  count: z.number().describe("How many connections like this one the entry stands for."),
});

/** ISO 8601, in the one form that compares as text. */
const time = z.iso
  .datetime({ offset: true, error: "must be a time such as 2027-01-01T00:00:00Z" })
  .transform((text) => new Date(text).toISOString());

export const listConnections = defineRoute({
  method: "get",
  path: "/connections",
  summary: "List refused and new connections, newest first",
  query: z.strictObject({
    ...pageQuery,
    principal: z.string().max(256).optional(),
    outcome: z.enum(OUTCOMES).optional(),
    since: time.optional(),
    until: time.optional(),
  }),
  answer: z.object({ connections: z.array(connection), next_cursor: nextCursor }),
  run: async ({ env, query }) => {
    const [, at, id] = placeOf(query.cursor, PLACE) ?? [];
    const wanted: [string, string | undefined][] = [
      ["principal = ?", query.principal],
      ["outcome = ?", query.outcome],
      ["at >= ?", query.since],
      ["at <= ?", query.until],
      ["at <= ?", at],
    ];
    const given = wanted.flatMap(([sql, value]) => (value === undefined ? [] : [{ sql, value }]));
    const conditions = given.map(({ sql }) => sql);
    if (at !== undefined) conditions.push("(at, id) < (?, ?)");
    const { results } = await env.ARCHIVE_DB.prepare(
      `SELECT * FROM connections ${conditions.length === 0 ? "" : `WHERE ${conditions.join(" AND ")}`}
       ORDER BY at DESC, id DESC LIMIT ?`,
    )
      .bind(
        ...given.map(({ value }) => value),
        ...(at === undefined || id === undefined ? [] : [at, id]),
        query.limit + 1,
      )
      .all<z.infer<typeof connection>>();
    const page = results.slice(0, query.limit);
    const last = results.length > query.limit ? page.at(-1) : undefined;
    return {
      connections: page,
      next_cursor: last === undefined ? null : encodeCursor(`${last.at} ${last.id}`),
    };
  },
});

/** Time and id of the last entry of a page. */
const PLACE = /^([0-9TZ:.-]{24}) ([0-9a-f-]{36})$/;
