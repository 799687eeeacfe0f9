/**
 * @module
 * The sums of an archive in PostgreSQL, from one snapshot of it.
 */
import pg from "pg";
import { type ArchiveSums, SUM_QUERIES, sumProblems } from "../../support/sums.ts";

/** Throws when a count is not what the archive holds, naming the series and both numbers. */
export async function requireSums(url: string): Promise<void> {
  const problems = sumProblems(await readSums(url));
  if (problems.length > 0) {
    throw new Error(`Counts that are not what the archive holds:\n${problems.join("\n")}`);
  }
}

/** The gateway may be flushing still: all three are read as of one moment. */
async function readSums(connectionString: string): Promise<ArchiveSums> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    const { rows: counts } = await client.query<ArchiveSums["counts"][number]>(SUM_QUERIES.counts);
    const { rows: records } = await client.query<ArchiveSums["records"][number]>(
      SUM_QUERIES.records,
    );
    const { rows: sessions } = await client.query<ArchiveSums["sessions"][number]>(
      SUM_QUERIES.sessions,
    );
    return { counts, records, sessions };
  } finally {
    await client.end();
  }
}
