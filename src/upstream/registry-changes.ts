/**
 * @module
 * Changes of the registry of upstreams. Every change that clients can see
 * counts the directory's version up in the same batch, and is only made if what
 * it was decided on still holds: the registration's revision, and for names the
 * version itself.
 */
import { type Registration, sealAuth } from "./config.ts";
import type { Found, FoundDefinition, Observation } from "./observe.ts";
import { type DefinitionHead, type UpstreamRow, VERSION } from "./registry.ts";

/** Bytes of one bound parameter; D1 takes 2 MB. */
const MAX_CHUNK_BYTES = 900_000;

/** Whether a change was made, or what it was decided on was no longer so. */
export type Written = "written" | "outdated";

/** The condition under which a statement of a batch does anything. */
type Guard = { readonly name: string; readonly revision: string; readonly version: number | null };

/** SQL of a guard; its three parameters come first in every statement. */
const GUARD = `EXISTS (SELECT 1 FROM upstreams WHERE name = ?1 AND revision = ?2)
  AND (?3 IS NULL OR ${VERSION} = ?3)`;

function guarded({ name, revision, version }: Guard): [string, string, number | null] {
  return [name, revision, version];
}

function bump(db: D1Database, guard: Guard): D1PreparedStatement {
  return db
    .prepare(
      `INSERT INTO directory_version (id, version) SELECT 1, 1 WHERE ${GUARD}
       ON CONFLICT (id) DO UPDATE SET version = version + 1`,
    )
    .bind(...guarded(guard));
}

/** Stores a new upstream with what was found, if nothing changed since its claims were weighed. */
export async function insertUpstream(
  db: D1Database,
  secretsKey: Uint8Array,
  input: {
    registration: Registration;
    version: number;
    observation: Observation;
    by: string;
    now: number;
    approveAll: boolean;
  },
): Promise<Written> {
  const { config, auth } = input.registration;
  const at = new Date(input.now).toISOString();
  const guard: Guard = { name: config.name, revision: crypto.randomUUID(), version: input.version };
  const insert = db
    .prepare(
      `INSERT INTO upstreams (name, revision, config, auth, created_at, created_by, updated_at,
         capabilities, resources, left_out)
       SELECT ?1, ?2, ?4, ?5, ?6, ?7, ?6, '{}', '[]', '[]' WHERE ${VERSION} = ?3
       ON CONFLICT (name) DO NOTHING`,
    )
    .bind(
      ...guarded(guard),
      JSON.stringify(config),
      sealAuth(secretsKey, config.name, auth),
      at,
      input.by,
    );
  const [inserted] = await db.batch([
    insert,
    ...observationWrites(db, guard, input.observation, [], at),
    ...(input.approveAll ? [approveObserved(db, guard, input.by, at)] : []),
    bump(db, guard),
  ]);
  return writtenBy(inserted);
}

/** Stores a changed registration; with an observation, also what was found under it. */
export async function updateUpstream(
  db: D1Database,
  secretsKey: Uint8Array,
  input: {
    row: UpstreamRow;
    registration: Registration;
    version: number;
    /** Null where the upstream was not asked anew. */
    observation: Observation | null;
    stored: readonly DefinitionHead[];
    /** Whether it is another server now: what the old one spoke says nothing of it. */
    isElsewhere: boolean;
    now: number;
  },
): Promise<Written> {
  const { row, registration, observation } = input;
  const { config, auth } = registration;
  const at = new Date(input.now).toISOString();
  const before: Guard = { name: row.name, revision: row.revision, version: input.version };
  const after: Guard = { ...before, revision: crypto.randomUUID() };
  const update = db
    .prepare(
      `UPDATE upstreams SET revision = ?4, config = ?5, auth = ?6, updated_at = ?7,
         era = CASE WHEN ?8 THEN NULL ELSE era END
       WHERE name = ?1 AND ${GUARD}`,
    )
    .bind(
      ...guarded(before),
      after.revision,
      JSON.stringify(config),
      sealAuth(secretsKey, config.name, auth),
      at,
      input.isElsewhere ? 1 : 0,
    );
  const writes =
    observation === null ? [] : observationWrites(db, after, observation, input.stored, at);
  const [updated] = await db.batch([update, ...writes, bump(db, after)]);
  return writtenBy(updated);
}

/** Stores what a refresh found, or how it failed; counts the version up only where clients see a difference. */
export async function storeObservation(
  db: D1Database,
  input: {
    row: UpstreamRow;
    /** Of the claims that new names were weighed against; null where there were none. */
    version: number | null;
    observation: Observation;
    stored: readonly DefinitionHead[];
    now: number;
  },
): Promise<Written> {
  const { row, observation, stored } = input;
  const guard: Guard = { name: row.name, revision: row.revision, version: input.version };
  const at = new Date(input.now).toISOString();
  const writes = observationWrites(db, guard, observation, stored, at);
  const isSeen = observation.ok
    ? writes.length > 1 || stateOf(observation.found) !== storedState(row)
    : row.failure === null;
  const results = await db.batch([...writes, ...(isSeen ? [bump(db, guard)] : [])]);
  return writtenBy(results[writes.length - 1]);
}

/** What of a refresh's findings clients see beside definitions. */
function stateOf({ era, protocolVersion, capabilities, ttlMs, resources }: Found): string {
  const texts = [JSON.stringify(capabilities), JSON.stringify(resources)];
  return JSON.stringify([era, protocolVersion, ttlMs, ...texts, null]);
}

function storedState(row: UpstreamRow): string {
  const { era, protocol_version, ttl_ms, capabilities, resources, failure } = row;
  return JSON.stringify([era, protocol_version, ttl_ms, capabilities, resources, failure]);
}

/** The statements that store an observation; the last is the one of the upstream's own row. */
function observationWrites(
  db: D1Database,
  guard: Guard,
  observation: Observation,
  stored: readonly DefinitionHead[],
  at: string,
): D1PreparedStatement[] {
  if (!observation.ok) {
    return [
      db
        .prepare(`UPDATE upstreams SET checked_at = ?4, failure = ?5 WHERE name = ?1 AND ${GUARD}`)
        .bind(...guarded(guard), at, observation.failure),
    ];
  }
  const { found } = observation;
  return [
    ...definitionWrites(db, guard, found.definitions, stored, at),
    stateWrite(db, guard, found, at),
  ];
}

function stateWrite(db: D1Database, guard: Guard, found: Found, at: string): D1PreparedStatement {
  return db
    .prepare(
      `UPDATE upstreams SET era = ?4, protocol_version = ?5, capabilities = ?6, server_info = ?7,
         ttl_ms = ?8, resources = ?9, left_out = ?10, refreshed_at = ?11, checked_at = ?11,
         failure = NULL
       WHERE name = ?1 AND ${GUARD}`,
    )
    .bind(
      ...guarded(guard),
      found.era,
      found.protocolVersion,
      JSON.stringify(found.capabilities),
      found.serverInfo === null ? null : JSON.stringify(found.serverInfo),
      found.ttlMs,
      JSON.stringify(found.resources),
      JSON.stringify(found.leftOut),
      at,
    );
}

/**
 * Writes the definitions that are not stored as they are, and those that went.
 * The status is worked out in SQL, from the pin that is approved at that moment:
 * an approval may have come since the definitions were read.
 */
function definitionWrites(
  db: D1Database,
  guard: Guard,
  found: readonly FoundDefinition[],
  stored: readonly DefinitionHead[],
  at: string,
): D1PreparedStatement[] {
  const known = new Map(stored.map((head) => [placeOf(head), head]));
  const news = found.filter((definition) => {
    const head = known.get(placeOf(definition));
    return head?.observed_pin !== definition.pin;
  });
  const kept = new Set(found.map(placeOf));
  const gone = stored.filter(
    (head) => !kept.has(placeOf(head)) && (head.status !== "gone" || head.approved_pin === null),
  );
  const upserts = chunksOf(news).map((chunk) =>
    db
      .prepare(
        `INSERT INTO upstream_definitions
           (upstream, kind, name, status, reads, observed, observed_pin, observed_at)
         SELECT ?1, json_extract(value, '$.kind'), json_extract(value, '$.name'), 'pending', 0,
           json_extract(value, '$.text'), json_extract(value, '$.pin'), ?4
         FROM json_each(?5) WHERE ${GUARD}
         ON CONFLICT (upstream, kind, name) DO UPDATE SET
           observed = excluded.observed, observed_pin = excluded.observed_pin,
           observed_at = excluded.observed_at,
           status = CASE WHEN approved_pin IS NULL THEN 'pending'
             WHEN approved_pin = excluded.observed_pin THEN 'approved' ELSE 'changed' END`,
      )
      .bind(...guarded(guard), at, chunk),
  );
  if (gone.length === 0) return upserts;
  const places = JSON.stringify(gone.map(placeOf));
  const isGone = `upstream = ?1 AND (kind || char(10) || name) IN (SELECT value FROM json_each(?4))
    AND ${GUARD}`;
  return [
    ...upserts,
    db
      .prepare(`DELETE FROM upstream_definitions WHERE approved_pin IS NULL AND ${isGone}`)
      .bind(...guarded(guard), places),
    db
      .prepare(
        `UPDATE upstream_definitions
         SET status = 'gone', observed = NULL, observed_pin = NULL, observed_at = ?5 WHERE ${isGone}`,
      )
      .bind(...guarded(guard), places, at),
  ];
}

/** Definitions as JSON arrays, none longer than a parameter may be. */
function chunksOf(definitions: readonly FoundDefinition[]): string[] {
  const chunks: string[] = [];
  let texts: string[] = [];
  let bytes = 0;
  for (const { kind, name, text, pin } of definitions) {
    const json = JSON.stringify({ kind, name, text, pin });
    const size = Buffer.byteLength(json) + 1;
    if (bytes + size > MAX_CHUNK_BYTES && texts.length > 0) {
      chunks.push(`[${texts.join(",")}]`);
      texts = [];
      bytes = 0;
    }
    texts.push(json);
    bytes += size;
  }
  if (texts.length > 0) chunks.push(`[${texts.join(",")}]`);
  return chunks;
}

function approveObserved(
  db: D1Database,
  guard: Guard,
  by: string,
  at: string,
): D1PreparedStatement {
  return db
    .prepare(
      `UPDATE upstream_definitions SET approved = observed, approved_pin = observed_pin,
         approved_by = ?4, approved_at = ?5, status = 'approved'
       WHERE upstream = ?1 AND observed_pin IS NOT NULL AND ${GUARD}`,
    )
    .bind(...guarded(guard), by, at);
}

/** Approves the observed copy of one definition, if it is still the one with this pin. */
export async function approveDefinition(
  db: D1Database,
  row: UpstreamRow,
  definition: Pick<DefinitionHead, "kind" | "name">,
  approval: { pin: string; reads: boolean | null; by: string; now: number },
): Promise<Written> {
  const guard: Guard = { name: row.name, revision: row.revision, version: null };
  const [approved] = await db.batch([
    db
      .prepare(
        `UPDATE upstream_definitions SET approved = observed, approved_pin = observed_pin,
           approved_by = ?7, approved_at = ?8, status = 'approved', reads = COALESCE(?9, reads)
         WHERE upstream = ?1 AND kind = ?4 AND name = ?5 AND observed_pin = ?6 AND ${GUARD}`,
      )
      .bind(
        ...guarded(guard),
        definition.kind,
        definition.name,
        approval.pin,
        approval.by,
        new Date(approval.now).toISOString(),
        approval.reads === null ? null : approval.reads ? 1 : 0,
      ),
    bump(db, guard),
  ]);
  return writtenBy(approved);
}

/** Deletes an upstream with all its definitions, approvals included. */
export async function deleteUpstream(db: D1Database, row: UpstreamRow): Promise<Written> {
  const guard: Guard = { name: row.name, revision: row.revision, version: null };
  const results = await db.batch([
    db
      .prepare(`DELETE FROM upstream_definitions WHERE upstream = ?1 AND ${GUARD}`)
      .bind(...guarded(guard)),
    bump(db, guard),
    db.prepare(`DELETE FROM upstreams WHERE name = ?1 AND ${GUARD}`).bind(...guarded(guard)),
  ]);
  return writtenBy(results[2]);
}

function placeOf({ kind, name }: { kind: string; name: string }): string {
  return `${kind}\n${name}`;
}

function writtenBy(result: D1Result<unknown> | undefined): Written {
  return result !== undefined && result.meta.changes > 0 ? "written" : "outdated";
}
