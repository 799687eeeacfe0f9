/**
 * @module
 * The sums of D1 inside workerd: after every test file its counts are held
 * against its rows.
 */
import { env } from "cloudflare:workers";
import {
  type ArchiveSums,
  changeOf,
  type HeldRecords,
  type HeldSessions,
  heldSeries,
  SUM_QUERIES,
  sumProblems,
} from "./sums.ts";

const tampered = new Map<string, number>();

async function sums(): Promise<ArchiveSums> {
  const db = env.ARCHIVE_DB;
  // A batch is a transaction: flushes of objects go on meanwhile.
  const [counts, records, sessions] = await db.batch<unknown>([
    db.prepare(SUM_QUERIES.counts),
    db.prepare(SUM_QUERIES.records),
    db.prepare(SUM_QUERIES.sessions),
  ]);
  return {
    counts: (counts?.results ?? []) as ArchiveSums["counts"],
    records: (records?.results ?? []) as HeldRecords[],
    sessions: (sessions?.results ?? []) as HeldSessions[],
  };
}

/** Every series of D1 whose count is not what it holds. */
export async function sumProblemsOfD1(): Promise<string[]> {
  return sumProblems(await sums(), tampered);
}

/**
 * Changes D1's rows as the gateway never does, and takes exactly that off when
 * the sums are made. No flush may happen within `change`.
 */
export async function tampering<T>(change: () => Promise<T>): Promise<T> {
  const before = heldSeries(await sums());
  const changed = await change();
  for (const [series, by] of changeOf(before, heldSeries(await sums()))) {
    tampered.set(series, (tampered.get(series) ?? 0) + by);
  }
  return changed;
}

/** Loses D1's archive: all that it holds, and what it has counted of it. */
export async function loseArchive(): Promise<void> {
  const db = env.ARCHIVE_DB;
  await db.batch(
    ["audit_log", "audit_log_archive", "sessions", "metric_counts"].map((table) =>
      db.prepare(`DELETE FROM ${table}`),
    ),
  );
  tampered.clear();
}
