/**
 * @module
 * The sums of a local gateway's D1, read from its file once the gateway is
 * stopped or killed. A copy is read: what SIGKILL left in the write-ahead log
 * belongs to it, and the gateway that is started next finds all as it was.
 */
import { cp, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import * as z from "zod";
import {
  type ArchiveSums,
  changeOf,
  heldSeries,
  type Series,
  SUM_QUERIES,
  sumProblems,
} from "../../support/sums.ts";

const sumsSchema = z.object({
  counts: z.array(z.object({ metric: z.string(), labels: z.string(), value: z.number() })),
  records: z.array(
    z.object({
      role: z.string(),
      result: z.string(),
      event: z.string(),
      tool: z.string().nullable(),
      n: z.number(),
    }),
  ),
  sessions: z.array(
    z.object({
      era: z.string(),
      role: z.string(),
      live: z.number(),
      retired: z.number(),
      n: z.number(),
      entries: z.number(),
    }),
  ),
});

/**
 * Every series of a gateway's D1 whose count is not what it holds. Throws when there is no D1.
 *
 * @param tampered what a test changed in the rows itself
 */
export async function sumProblemsOfState(stateDir: string, tampered: Series): Promise<string[]> {
  return withD1Copy(stateDir, (db) => sumProblems(sumsOf(db), tampered));
}

/** Changes the D1 of a gateway that does not run; answers with what that changed in the series. */
export async function tamperWithState(
  stateDir: string,
  change: (db: DatabaseSync) => void,
): Promise<Series> {
  const db = new DatabaseSync(await d1File(stateDir));
  try {
    const before = heldSeries(sumsOf(db));
    change(db);
    return changeOf(before, heldSeries(sumsOf(db)));
  } finally {
    db.close();
  }
}

function sumsOf(db: DatabaseSync): ArchiveSums {
  const rows = Object.fromEntries(
    Object.entries(SUM_QUERIES).map(([name, query]) => [name, db.prepare(query).all()]),
  );
  return sumsSchema.parse(rows);
}

/** Opens a copy of the gateway's D1, its write-ahead log included. */
export async function withD1Copy<T>(
  stateDir: string,
  work: (db: DatabaseSync) => T,
): Promise<Awaited<T>> {
  const folder = await mkdtemp(join(tmpdir(), "atlas-gate-d1-"));
  try {
    const copy = join(folder, "d1.sqlite");
    const file = await d1File(stateDir);
    await cp(file, copy);
    for (const kind of ["-wal", "-shm"]) {
      await cp(`${file}${kind}`, `${copy}${kind}`).catch(ignoreMissing);
    }
    const db = new DatabaseSync(copy);
    try {
      return await work(db);
    } finally {
      db.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Where `wrangler dev` keeps the one D1 of the gateway. */
export async function d1File(stateDir: string): Promise<string> {
  const folder = join(stateDir, "v3", "d1", "miniflare-D1DatabaseObject");
  const files = (await readdir(folder)).filter(
    (name) => name.endsWith(".sqlite") && name !== "metadata.sqlite",
  );
  const [file] = files;
  if (file === undefined || files.length > 1) throw new Error(`${files.length} D1 in ${folder}`);
  return join(folder, file);
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
}
