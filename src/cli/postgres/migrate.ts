/**
 * @module
 * Brings a PostgreSQL database to the schema of this version: each migration of
 * `migrations/postgres` once, in order, in a transaction of its own.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { MIGRATIONS_TABLE } from "../../archive/postgres-schema.ts";
import { ROOT } from "../wrangler.ts";

const FOLDER = join(ROOT, "migrations", "postgres");
const BREAKPOINT = "--> statement-breakpoint";
/** One migrating process at a time: any number that nobody else locks. */
const LOCK = 4_871_023_119;

const CREATE_TABLE = `
  CREATE TABLE IF NOT EXISTS ${MIGRATIONS_TABLE} (
    name text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
  )`;

/** The names of all migrations, oldest first. */
export async function migrationNames(): Promise<string[]> {
  const files = await readdir(FOLDER);
  return files.flatMap((file) => (file.endsWith(".sql") ? [file.slice(0, -4)] : [])).sort();
}

/**
 * Applies what is missing, up to `last` where it is given; answers with the
 * names of what it applied. Throws when a migration that was applied is not the
 * one in the folder.
 */
export async function migratePostgres(url: string, last?: string): Promise<string[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query("SELECT pg_advisory_lock($1)", [LOCK]);
    await client.query(CREATE_TABLE);
    const { rows } = await client.query<{ name: string; sha256: string }>(
      `SELECT name, sha256 FROM ${MIGRATIONS_TABLE}`,
    );
    const known = new Map(rows.map((row) => [row.name, row.sha256]));
    const applied: string[] = [];
    for (const name of await migrationNames()) {
      if (last !== undefined && name > last) break;
      const text = await readFile(join(FOLDER, `${name}.sql`), "utf8");
      const sha256 = createHash("sha256").update(text).digest("hex");
      if (known.has(name)) {
        if (known.get(name) === sha256) continue;
        throw new Error(`The migration ${name} was applied in another form than it has now.`);
      }
      await apply(client, name, text, sha256);
      applied.push(name);
    }
    return applied;
  } finally {
    await client.end();
  }
}

async function apply(client: pg.Client, name: string, text: string, sha256: string): Promise<void> {
  await client.query("BEGIN");
  try {
    for (const statement of text.split(BREAKPOINT)) await client.query(statement);
    await client.query(`INSERT INTO ${MIGRATIONS_TABLE} (name, sha256) VALUES ($1, $2)`, [
      name,
      sha256,
    ]);
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK");
    throw new Error(
      `The migration ${name} failed: ${error instanceof Error ? error.message : error}`,
    );
  }
}
