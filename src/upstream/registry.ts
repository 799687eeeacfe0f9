/**
 * @module
 * The registry of upstreams in D1, as it is read. `registry-changes.ts` writes it.
 */
import * as z from "zod";
import { isJsonObject } from "../audit/json.ts";
import type { JsonObject } from "../mcp/ijson.ts";
import { parseConfig } from "./config.ts";
import type { Claim } from "./conflicts.ts";
import type { LeftOut, StoredKind } from "./observe.ts";

export type UpstreamRow = {
  readonly name: string;
  readonly revision: string;
  readonly config: string;
  readonly auth: string;
  readonly created_at: string;
  readonly created_by: string;
  readonly updated_at: string;
  readonly era: "2025" | "2026" | null;
  readonly protocol_version: string | null;
  readonly capabilities: string;
  readonly server_info: string | null;
  readonly ttl_ms: number | null;
  readonly resources: string;
  readonly resource_count: number;
  readonly left_out: string;
  readonly refreshed_at: string | null;
  readonly checked_at: string | null;
  readonly failure: string | null;
};

/** Without what may be large: a page of these has up to 200. */
export type UpstreamSummary = Omit<UpstreamRow, "resources" | "left_out">;

const SUMMARY_COLUMNS = `name, revision, config, auth, created_at, created_by, updated_at, era,
  protocol_version, capabilities, server_info, ttl_ms, refreshed_at, checked_at, failure,
  json_array_length(resources) AS resource_count`;

export type DefinitionStatus = "pending" | "approved" | "changed" | "gone";

export type DefinitionRow = {
  readonly upstream: string;
  readonly kind: StoredKind;
  readonly name: string;
  readonly status: DefinitionStatus;
  readonly reads: 0 | 1;
  readonly approved: string | null;
  readonly approved_pin: string | null;
  readonly approved_by: string | null;
  readonly approved_at: string | null;
  readonly observed: string | null;
  readonly observed_pin: string | null;
  readonly observed_at: string;
};

/** Without the two copies, which may be large. */
export type DefinitionHead = Omit<DefinitionRow, "approved" | "observed">;

const HEAD_COLUMNS = `upstream, kind, name, status, reads, approved_pin, approved_by, approved_at,
  observed_pin, observed_at`;

/** SQL of the directory's version. */
export const VERSION = "COALESCE((SELECT version FROM directory_version WHERE id = 1), 0)";

export async function readUpstream(db: D1Database, name: string): Promise<UpstreamRow | null> {
  return db
    .prepare(`SELECT ${SUMMARY_COLUMNS}, resources, left_out FROM upstreams WHERE name = ?`)
    .bind(name)
    .first<UpstreamRow>();
}

export async function upstreamNames(db: D1Database): Promise<string[]> {
  const { results } = await db
    .prepare("SELECT name FROM upstreams ORDER BY name")
    .all<{ name: string }>();
  return results.map(({ name }) => name);
}

/** A page of upstreams by name, after `after`. */
export async function listUpstreams(
  db: D1Database,
  after: string,
  limit: number,
): Promise<UpstreamSummary[]> {
  const { results } = await db
    .prepare(`SELECT ${SUMMARY_COLUMNS} FROM upstreams WHERE name > ? ORDER BY name LIMIT ?`)
    .bind(after, limit)
    .all<UpstreamSummary>();
  return results;
}

/** The definitions of an upstream by kind and name, without their copies. */
export async function definitionHeads(db: D1Database, name: string): Promise<DefinitionHead[]> {
  const { results } = await db
    .prepare(
      `SELECT ${HEAD_COLUMNS} FROM upstream_definitions WHERE upstream = ? ORDER BY kind, name`,
    )
    .bind(name)
    .all<DefinitionHead>();
  return results;
}

/** A page of definitions with their copies, by kind and name, after the place of the last one. */
export async function definitionPage(
  db: D1Database,
  upstream: string,
  after: readonly [kind: string, name: string],
  options: { kind: StoredKind | null; status: DefinitionStatus | null; limit: number },
): Promise<DefinitionRow[]> {
  const { results } = await db
    .prepare(
      `SELECT * FROM upstream_definitions WHERE upstream = ?1 AND (kind, name) > (?2, ?3)
         AND (?4 IS NULL OR kind = ?4) AND (?5 IS NULL OR status = ?5)
       ORDER BY kind, name LIMIT ?6`,
    )
    .bind(upstream, ...after, options.kind, options.status, options.limit)
    .all<DefinitionRow>();
  return results;
}

/** What every upstream but one claims, and the version at which that is so. */
export type Claims = { readonly version: number; readonly others: readonly Claim[] };

type ClaimRow = Pick<UpstreamRow, "name" | "config" | "capabilities">;

export async function claimsBeside(db: D1Database, name: string): Promise<Claims> {
  const [versions, upstreams, names] = await db.batch<unknown>([
    db.prepare(`SELECT ${VERSION} AS version`),
    db.prepare("SELECT name, config, capabilities FROM upstreams WHERE name <> ?").bind(name),
    db
      .prepare(
        `SELECT upstream, kind, name FROM upstream_definitions
         WHERE upstream <> ? AND kind IN ('tool', 'prompt')`,
      )
      .bind(name),
  ]);
  const rows = resultsOf<ClaimRow>(upstreams);
  const named = resultsOf<{ upstream: string; kind: "tool" | "prompt"; name: string }>(names);
  return {
    version: resultsOf<{ version: number }>(versions)[0]?.version ?? 0,
    others: rows.map((row) => ({
      config: parseConfig(row.config),
      hasResources: hasResources(parseObject(row.capabilities)),
      names: named.filter(({ upstream }) => upstream === row.name),
    })),
  };
}

export function hasResources(capabilities: JsonObject): boolean {
  return Object.hasOwn(capabilities, "resources");
}

function resultsOf<Row>(result: D1Result<unknown> | undefined): Row[] {
  // What D1 answers has the columns of the statement; the type says which.
  return (result?.results ?? []) as Row[];
}

/** A stored JSON object. No schema goes over it: a definition must come out as it went in. */
export function parseObject(text: string): JsonObject {
  const value: unknown = JSON.parse(text);
  if (!isJsonObject(value)) throw new Error("a stored JSON object is none");
  return value;
}

const leftOutList = z.array(z.object({ kind: z.string(), name: z.string(), reason: z.string() }));

export function parseLeftOut(text: string): LeftOut[] {
  return leftOutList.parse(JSON.parse(text));
}
