/**
 * @module
 * All that a gateway has stored, read from its files while it runs: which
 * objects left one, how far each session's chain goes, and the rows of every
 * table that an attack might want to change. Counters and the connection log
 * are left out: those may grow with a refusal, and are meant to.
 */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

export type Footprint = {
  /** Files of objects that are no sessions, as `<class>/<name>`. */
  readonly objects: readonly string[];
  /** The last record of each session there ever was. */
  readonly records: Readonly<Record<string, number>>;
  /** A digest of each table's rows. */
  readonly tables: Readonly<Record<string, string>>;
};

/** What came between two footprints. */
export type Growth = {
  readonly objects: readonly string[];
  /** New records by session. */
  readonly records: Readonly<Record<string, number>>;
  readonly tables: readonly string[];
};

export const NOTHING: Growth = { objects: [], records: {}, tables: [] };

const TABLES = [
  "api_keys",
  "client_certificates",
  "deployment",
  "kill_switches",
  "legal_holds",
  "upstream_definitions",
  "upstreams",
  "witnessed_logs",
  "workspaces",
];

/** The gateway writes while it is read. */
const LOCK_TIMEOUT_MS = 10_000;

/** Written beside an answer, whoever is answered. */
const VOLATILE = new Set(["last_used_at"]);

export function footprintOf(stateDir: string): Footprint {
  const records: Record<string, number> = {};
  const note = (session: string, last: number) => {
    records[session] = Math.max(records[session] ?? 0, last);
  };
  // Objects first: what moves from one to the archive in between is seen twice rather than never.
  const objects = classesOf(stateDir).flatMap(({ name, folder }) => {
    const files = databasesIn(folder);
    if (name !== "SessionObject") return files.map((file) => `${name}/${file}`);
    for (const file of files) {
      const { session, last } = inDatabase(join(folder, file), chainIn);
      note(session ?? file, last);
    }
    return [];
  });
  const d1 = join(stateDir, "v3", "d1", "miniflare-D1DatabaseObject");
  const tables: Record<string, string> = {};
  for (const file of databasesIn(d1)) {
    const archive = inDatabase(join(d1, file), archiveIn);
    for (const { session_id, last } of archive.lasts) note(String(session_id), Number(last));
    Object.assign(tables, archive.tables);
  }
  return { objects: objects.sort(), records, tables };
}

export function growth(before: Footprint, after: Footprint): Growth {
  const records = Object.entries(after.records).flatMap(([session, last]) => {
    const grown = last - (before.records[session] ?? 0);
    // A session that is new has grown even without a record.
    return session in before.records && grown === 0 ? [] : [[session, grown] as const];
  });
  return {
    objects: after.objects.filter((name) => !before.objects.includes(name)),
    records: Object.fromEntries(records),
    tables: TABLES.filter((table) => before.tables[table] !== after.tables[table]),
  };
}

function classesOf(stateDir: string): { name: string; folder: string }[] {
  const root = join(stateDir, "v3", "do");
  // Counts of requests are kept in one object, however many requests there are.
  return readdirSync(root)
    .filter((folder) => folder !== "atlas-gate-MetricsObject")
    .map((folder) => ({ name: folder.replace("atlas-gate-", ""), folder: join(root, folder) }));
}

function databasesIn(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder).filter(
    (file) => file.endsWith(".sqlite") && file !== "metadata.sqlite",
  );
}

/** What was read of a file, and when: a file that was not written since is not read again. */
const known = new Map<string, { readonly stamp: string; readonly value: unknown }>();
/** Clocks of file systems tick: a file that was written this shortly before may be written again unnoticed, in ms. */
const TICK_MS = 50;

function inDatabase<T>(path: string, read: (database: DatabaseSync) => T): T {
  const { stamp, isSettled } = stampOf(path);
  const before = known.get(path);
  // The one reader of a path always reads the same things of it.
  if (before?.stamp === stamp) return before.value as T;
  const database = new DatabaseSync(path, { readOnly: true, timeout: LOCK_TIMEOUT_MS });
  try {
    const value = read(database);
    if (isSettled) known.set(path, { stamp, value });
    return value;
  } finally {
    database.close();
  }
}

/** When a database and its write-ahead log were written, and whether that was long enough ago. */
function stampOf(path: string): { stamp: string; isSettled: boolean } {
  const states = [path, `${path}-wal`].map((file) => statSync(file, { throwIfNoEntry: false }));
  const written = Math.max(...states.map((state) => state?.mtimeMs ?? 0));
  return {
    stamp: states.map((state) => `${state?.mtimeMs} ${state?.size}`).join(),
    isSettled: Date.now() - written > TICK_MS,
  };
}

/** The session of an object, and the last record that it holds or has handed on. */
function chainIn(database: DatabaseSync): { session: string | null; last: number } {
  const tables = new Set(
    database
      .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
      .all()
      .map(({ name }) => name),
  );
  const named = tables.has("__miniflare_do_name")
    ? database.prepare("SELECT name FROM __miniflare_do_name").get()
    : undefined;
  const last = tables.has("records")
    ? database
        .prepare(
          `SELECT max(coalesce((SELECT max(seq) FROM records), 0),
                      coalesce((SELECT max(cursor) FROM sinks), 0)) AS last`,
        )
        .get()
    : undefined;
  return {
    session: named === undefined ? null : String(named.name),
    last: Number(last?.last ?? 0),
  };
}

function archiveIn(database: DatabaseSync) {
  return {
    lasts: database
      .prepare("SELECT session_id, max(seq) AS last FROM audit_log GROUP BY session_id")
      .all(),
    tables: Object.fromEntries(TABLES.map((table) => [table, digestOf(database, table)])),
  };
}

function digestOf(database: DatabaseSync, table: string): string {
  const hash = createHash("sha256");
  for (const row of database.prepare(`SELECT * FROM ${table} ORDER BY 1, 2`).all()) {
    const kept = Object.entries(row).filter(([column]) => !VOLATILE.has(column));
    hash.update(JSON.stringify(kept));
  }
  return hash.digest("hex");
}
