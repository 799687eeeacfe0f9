/**
 * @module
 * The archive as its keeper sees it: moved, rebuilt, verified, exported and
 * restored, in bounded steps that a command line drives to the end.
 */
import * as z from "zod";
import { type Archive, BEFORE_ALL_SESSIONS, type EntryPlace } from "../archive/archive.ts";
import { sessionRowSchema } from "../archive/backup.ts";
import { copiesOf } from "../archive/compare.ts";
import { DAILY_TASKS, runTask } from "../archive/daily.ts";
import { openArchive, openNamed } from "../archive/open.ts";
import {
  backfill,
  importRecords,
  type Progress,
  rebuild,
  verifyArchive,
} from "../archive/transfer.ts";
import { HttpRefusal } from "../edge/refusal.ts";
import type { JsonObject } from "../mcp/ijson.ts";
import { knownTools } from "../ops/metrics/known-tools.ts";
import { recordChange } from "../session/ambient.ts";
import { exportedLine, heldSession } from "../session/evidence.ts";
import { archiveName, problem, sessionIdText } from "./archive-input.ts";
import { type AdminCall, defineRoute } from "./route.ts";

const DAY_MS = 86_400_000;
const PAGE = 500;
/** Lines of one import: what one batch of the archive holds. */
const MAX_IMPORTED = 500;

const progress = z.object({
  sessions: z.int(),
  records: z.int(),
  problems: z.array(problem),
  next: z.string().nullable(),
});

export const runDailyTask = defineRoute({
  method: "post",
  path: "/archive/run",
  summary: "Do a slice of the daily work now, though it was done today",
  body: z.strictObject({ task: z.enum(DAILY_TASKS) }),
  answer: z.object({ done: z.boolean() }),
  run: (call) =>
    recorded(call, "archive.run", () =>
      runTask(call.env, call.config, call.body.task, call.now, true),
    ),
});

export const backfillArchive = defineRoute({
  method: "post",
  path: "/archive/backfill",
  summary: "Copy the next sessions from one archive to the other",
  body: z.strictObject({ from: archiveName, to: archiveName, after: sessionIdText.optional() }),
  answer: progress,
  run: (call) => {
    const { from, to, after } = call.body;
    if (from === to) throw new HttpRefusal(400, "INVALID_ARGUMENT", "to: must differ from from.");
    return recorded(call, "archive.backfill", async () => {
      const [source, target] = [named(call.env, from), named(call.env, to)];
      const tools = await knownTools(call.env);
      return json(await backfill(source, target, after ?? BEFORE_ALL_SESSIONS, tools));
    });
  },
});

export const rebuildArchive = defineRoute({
  method: "post",
  path: "/archive/rebuild",
  summary: "Write the records of the next segments in R2 to the archive",
  body: z.strictObject({ after: z.string().startsWith("audit/").max(1024).optional() }),
  answer: progress,
  run: (call) =>
    recorded(call, "archive.rebuild", async () => {
      const { env, config, body } = call;
      const { secretsKey } = config;
      const held = (sessionId: string) => heldSession(env, sessionId);
      const tools = await knownTools(env);
      const archive = openArchive(env);
      return json(await rebuild(archive, env.BUCKET, secretsKey, held, body.after ?? "", tools));
    }),
});

export const importIntoArchive = defineRoute({
  method: "post",
  path: "/archive/import",
  summary: "Write records of an export to the archive, with their session's row",
  body: z.strictObject({
    session: sessionRowSchema.extend({ session_id: sessionIdText }).strict(),
    lines: z.array(z.string()).max(MAX_IMPORTED),
  }),
  answer: progress,
  run: (call) => {
    const { session, lines } = call.body;
    // The lines are evidence elsewhere; the record of this call names what they are of.
    const sent = { session_id: session.session_id, lines: lines.length };
    return recorded({ ...call, sent }, "archive.import", async () => {
      const tools = await knownTools(call.env);
      return json(await importRecords(openArchive(call.env), session, lines, tools));
    });
  },
});

export const verifyStored = defineRoute({
  method: "get",
  path: "/archive/verify",
  summary: "Hold the next sessions of an archive against their chains, segments and the log",
  query: z.strictObject({
    archive: archiveName.optional(),
    /** The archive whose sessions must all be there. */
    against: archiveName.optional(),
    after: sessionIdText.optional(),
  }),
  answer: progress,
  run: async ({ env, config, query }) => {
    const archive = query.archive === undefined ? openArchive(env) : named(env, query.archive);
    const against = query.against === undefined ? archive : named(env, query.against);
    const copies = copiesOf(env, config, archive);
    return json(await verifyArchive(copies, against, query.after ?? BEFORE_ALL_SESSIONS));
  },
});

export const exportSessions = defineRoute({
  method: "get",
  path: "/archive/sessions",
  summary: "The index of all sessions, one a line, with their wrapped keys",
  answer: "application/x-ndjson",
  run: async ({ env }) => {
    const archive = openArchive(env);
    let after = BEFORE_ALL_SESSIONS;
    return ndjson(async () => {
      const rows = await archive.walk({ after, limit: PAGE });
      after = rows.at(-1)?.session_id ?? after;
      return rows.map(({ erased_at: _, retired_at: __, ...row }) => JSON.stringify(row));
    });
  },
});

export const exportDay = defineRoute({
  method: "get",
  path: "/archive/records",
  summary: "Every record of a UTC day that the archive holds, one a line, oldest first",
  query: z.strictObject({ day: z.iso.date() }),
  answer: "application/x-ndjson",
  run: async ({ env, query }) => {
    const archive = openArchive(env);
    const since = `${query.day}T00:00:00.000Z`;
    const before = new Date(Date.parse(query.day) + DAY_MS).toISOString();
    let after: EntryPlace | null = null;
    return ndjson(async () => {
      const rows = await archive.scan({ since, before, after, limit: PAGE });
      after = rows.at(-1) ?? after;
      return rows.map(exportedLine);
    });
  },
});

function named(env: Env, kind: Archive["kind"]): Archive {
  try {
    return openNamed(env, kind);
  } catch {
    throw new HttpRefusal(
      409,
      "CONFLICT",
      "There is no binding HYPERDRIVE: PostgreSQL is not there.",
    );
  }
}

/** Makes a change that is recorded with what it came to. */
function recorded<T extends JsonObject>(
  { env, operator, requestId, sent }: AdminCall<unknown, unknown, unknown>,
  action: string,
  change: () => Promise<T>,
): Promise<T> {
  const context = { action };
  return recordChange(
    env,
    operator,
    { event: "admin", request_id: requestId, args: sent, context },
    change,
    () => ({ result: "ok", context }),
  );
}

function json({ sessions, records, problems, next }: Progress): JsonObject {
  return { sessions, records, problems: problems.map((each) => ({ ...each })), next };
}

/** Lines as the reader asks for them, page by page, until a page is empty. */
function ndjson(page: () => Promise<string[]>): Response {
  const encoder = new TextEncoder();
  const stream = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const lines = await page();
      if (lines.length === 0) controller.close();
      else controller.enqueue(encoder.encode(lines.map((line) => `${line}\n`).join("")));
    },
  });
  return new Response(stream, { headers: { "content-type": "application/x-ndjson" } });
}
