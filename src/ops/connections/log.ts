/**
 * @module
 * The connection log: refused requests and new connections, in D1. An isolate
 * writes what it has gathered after a response, at most once a second.
 */
import { logEvent } from "../log.ts";
import { PacedWork } from "../paced-work.ts";
import { ConnectionBuffer, type ConnectionRow } from "./buffer.ts";
import type { Connection } from "./connection.ts";

const WRITE_EVERY_MS = 1_000;
/** How long the log is kept. */
export const CONNECTIONS_KEPT_MS = 90 * 86_400_000;
/** Rows that one statement deletes: D1 bounds how long one may take. */
const DELETE_ROWS = 5_000;
/** Statements of one run: the next run goes on. */
const DELETE_RUNS = 20;

const buffer = new ConnectionBuffer(() => crypto.randomUUID());
const writing = new PacedWork(WRITE_EVERY_MS);

/** Puts a connection down; it is written after the response. */
export function logConnection(
  env: Env,
  connection: Connection,
  now: number,
  later: (work: Promise<unknown>) => void,
): void {
  buffer.add(connection, now);
  writing.plan(later, () => writeWaiting(env.ARCHIVE_DB));
}

async function writeWaiting(db: D1Database): Promise<void> {
  const rows = buffer.take();
  if (rows.length === 0) return;
  try {
    await writeRows(db, rows);
  } catch (error) {
    buffer.putBack(rows);
    logEvent("warn", "connections_not_written", { rows: rows.length, error: String(error) });
  }
}

const COLUMNS = [
  "id",
  "at",
  "outcome",
  "reason",
  "status",
  "principal",
  "address",
  "colo",
  "tls_version",
  "user_agent",
  "request_id",
  "count",
] as const satisfies readonly (keyof ConnectionRow)[];

/** One bound parameter for all rows: D1 allows 100 a statement. */
async function writeRows(db: D1Database, rows: readonly ConnectionRow[]): Promise<void> {
  await db
    .prepare(
      `INSERT INTO connections (${COLUMNS.join(", ")})
       SELECT ${COLUMNS.map((column) => `value ->> '$.${column}'`).join(", ")}
       FROM json_each(?1) WHERE true
       ON CONFLICT (id) DO UPDATE SET count = max(count, excluded.count)`,
    )
    .bind(JSON.stringify(rows))
    .run();
}

/** Deletes what has been kept long enough; answers with how many rows that were. */
export async function deleteOldConnections(db: D1Database, now: number): Promise<number> {
  const before = new Date(now - CONNECTIONS_KEPT_MS).toISOString();
  let deleted = 0;
  for (let run = 0; run < DELETE_RUNS; run++) {
    const { meta } = await db
      .prepare(
        `DELETE FROM connections WHERE id IN
           (SELECT id FROM connections WHERE at < ? ORDER BY at LIMIT ${DELETE_ROWS})`,
      )
      .bind(before)
      .run();
    deleted += meta.changes;
    if (meta.changes < DELETE_ROWS) break;
  }
  return deleted;
}
