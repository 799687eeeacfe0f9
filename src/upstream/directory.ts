/**
 * @module
 * All upstreams and their approved definitions as an isolate sees them: one
 * immutable view, looked up by principal.
 *
 * The stored version is asked for at most once a second, one row; the view is
 * read anew only when it has moved on. So an approval, a quarantine or an
 * operator's change reaches every isolate within a second or so. While D1 does
 * not answer, the last view holds for a minute, and then there is none.
 */
import type { Principal } from "../edge/principal.ts";
import type { JsonObject } from "../mcp/ijson.ts";
import { logEvent } from "../ops/log.ts";
import { mayUseTool } from "../policy/tool-list.ts";
import { parseConfig } from "./config.ts";
import { exposedName } from "./naming.ts";
import { INSTRUCTIONS } from "./observe.ts";
import { type DefinitionRow, parseObject, type UpstreamRow } from "./registry.ts";
import { SingleFlight } from "./single-flight.ts";
import type { Definition, UpstreamEntry } from "./types.ts";
import { matchesTemplate } from "./uri-template.ts";

const CHECK_EVERY_MS = 1_000;
/** As long as a key is trusted without D1. */
const MAX_AGE_MS = 60_000;
/** Longer than D1 takes when it answers at all. */
const PATIENCE_MS = 5_000;

export type Offered = { readonly entry: UpstreamEntry; readonly definition: Definition };
export type OfferedResource = { readonly entry: UpstreamEntry; readonly resource: JsonObject };

type ExposedKind = "tool" | "prompt";

/** The view; every method is pure. Definitions are approved copies, whatever the upstream says now. */
export class Directory {
  readonly version: number;
  readonly #entries: readonly UpstreamEntry[];
  readonly #byName: ReadonlyMap<string, Offered>;

  constructor(version: number, entries: readonly UpstreamEntry[]) {
    this.version = version;
    this.#entries = entries;
    const byName = new Map<string, Offered>();
    for (const entry of entries) {
      for (const definition of entry.definitions) {
        if (definition.kind === "resource_template") continue;
        const key = `${definition.kind}\n${definition.exposed}`;
        if (!byName.has(key)) byName.set(key, { entry, definition });
      }
    }
    this.#byName = byName;
  }

  /** The upstreams that a principal may use, by name. */
  visible(principal: Principal): UpstreamEntry[] {
    return this.#entries.filter((entry) => isVisible(entry, principal));
  }

  /** Every upstream, whoever may use it, by name. */
  entries(): readonly UpstreamEntry[] {
    return this.#entries;
  }

  /** One upstream by name, whoever may use it. */
  entry(name: string): UpstreamEntry | null {
    return this.#entries.find(({ config }) => config.name === name) ?? null;
  }

  /** One upstream by name, if the principal may use it. */
  upstream(principal: Principal, name: string): UpstreamEntry | null {
    return this.visible(principal).find(({ config }) => config.name === name) ?? null;
  }

  /** The tool of an exposed name; also one that changed or is gone, for its call to be refused as such. */
  tool(principal: Principal, exposed: string): Offered | null {
    return this.#named("tool", principal, exposed);
  }

  prompt(principal: Principal, exposed: string): Offered | null {
    return this.#named("prompt", principal, exposed);
  }

  /** What lists show, sorted by exposed name: not what an upstream no longer offers. */
  tools(principal: Principal): Offered[] {
    return this.#listed("tool", principal).filter(({ definition }) =>
      mayUseTool(principal.tools, definition.exposed),
    );
  }

  prompts(principal: Principal): Offered[] {
    return this.#listed("prompt", principal);
  }

  templates(principal: Principal): Offered[] {
    return this.#listed("resource_template", principal);
  }

  /** The resources that upstreams listed, sorted by URI; of two with one URI, the owner's. */
  resources(principal: Principal): OfferedResource[] {
    const byUri = new Map<string, OfferedResource>();
    for (const entry of this.visible(principal)) {
      for (const resource of entry.resources) {
        const uri = String(resource.uri);
        const known = byUri.get(uri);
        if (known === undefined || this.ownerOf(principal, uri) === entry) {
          byUri.set(uri, { entry, resource });
        }
      }
    }
    return [...byUri.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, offered]) => offered);
  }

  /**
   * The upstream that a resource's URI belongs to: the one with the longest
   * prefix of it; else, of those without prefixes, the one that lists it or has
   * a template for it; else the only one of them that has resources at all.
   */
  ownerOf(principal: Principal, uri: string): UpstreamEntry | null {
    let owner: UpstreamEntry | null = null;
    let longest = -1;
    const open: UpstreamEntry[] = [];
    for (const entry of this.visible(principal)) {
      const prefixes = entry.config.resource_prefixes;
      for (const prefix of prefixes) {
        if (prefix.length <= longest || !uri.startsWith(prefix)) continue;
        owner = entry;
        longest = prefix.length;
      }
      if (prefixes.length === 0 && Object.hasOwn(entry.capabilities, "resources")) open.push(entry);
    }
    return (
      owner ??
      open.find(({ resources }) => resources.some((resource) => resource.uri === uri)) ??
      open.find((entry) => hasTemplateFor(entry, uri)) ??
      (open.length === 1 ? (open[0] ?? null) : null)
    );
  }

  /** Names of upstreams whose last refresh failed: what is listed of them is what they had before. */
  unavailable(principal: Principal): string[] {
    return this.visible(principal).flatMap(({ available, config }) =>
      available ? [] : [config.name],
    );
  }

  /** The approved instructions, each under the name of its upstream; null where there are none. */
  instructions(principal: Principal): string | null {
    const parts = this.visible(principal).flatMap(({ config, instructions }) =>
      instructions === null ? [] : [`From the upstream "${config.name}":\n${instructions}`],
    );
    return parts.length === 0 ? null : parts.join("\n\n");
  }

  /** Pins of all that a plan of the tenant could name, by exposed name; where a tool and a prompt share one, the tool's. */
  pins(tenant: string): Record<string, string> {
    const pins = new Map<string, string>();
    for (const kind of ["prompt", "tool"]) {
      for (const { config, definitions } of this.#entries) {
        if (!config.tenants.includes(tenant)) continue;
        for (const definition of definitions) {
          if (definition.kind === kind) pins.set(definition.exposed, definition.pin);
        }
      }
    }
    return Object.fromEntries(pins);
  }

  #named(kind: ExposedKind, principal: Principal, exposed: string): Offered | null {
    const offered = this.#byName.get(`${kind}\n${exposed}`);
    if (offered === undefined || !isVisible(offered.entry, principal)) return null;
    return kind === "tool" && !mayUseTool(principal.tools, exposed) ? null : offered;
  }

  #listed(kind: Definition["kind"], principal: Principal): Offered[] {
    return this.visible(principal)
      .flatMap((entry) =>
        entry.definitions
          .filter((definition) => definition.kind === kind && definition.status !== "gone")
          .map((definition) => ({ entry, definition })),
      )
      .sort((a, b) => (a.definition.exposed < b.definition.exposed ? -1 : 1));
  }
}

function isVisible({ config }: UpstreamEntry, { tenant, role, upstreams }: Principal): boolean {
  return (
    config.tenants.includes(tenant) &&
    config.roles.includes(role) &&
    (upstreams === null || upstreams.includes(config.name))
  );
}

function hasTemplateFor({ definitions }: UpstreamEntry, uri: string): boolean {
  return definitions.some(
    ({ kind, name }) => kind === "resource_template" && matchesTemplate(name, uri),
  );
}

// ── the isolate's view ──────────────────────────────────────────────────────

let view: Directory | null = null;
/** When the view was last known to be the stored one, and when D1 was last asked, Unix ms. */
let confirmedAt = Number.NEGATIVE_INFINITY;
let askedAt = Number.NEGATIVE_INFINITY;
/** Whether this isolate changed the registry since the view was read. */
let isOutdated = false;
let flight = new SingleFlight<Directory>(PATIENCE_MS);

/**
 * The directory as of the last second.
 *
 * @throws Error when D1 does not answer, and has not for a minute
 */
export async function directoryOf(env: Env): Promise<Directory> {
  const now = Date.now();
  const isFresh = now - askedAt < CHECK_EVERY_MS && now - confirmedAt < MAX_AGE_MS;
  if (view !== null && isFresh && !isOutdated) return view;
  const current = flight;
  try {
    return await current.run(() => load(env, now, () => current === flight));
  } catch (error) {
    if (view === null || now - confirmedAt >= MAX_AGE_MS) throw error;
    logEvent("warn", "directory_unreadable", { error: String(error) });
    return view;
  }
}

/** Has this isolate look again before it answers; whoever changes the registry calls it. */
export function forgetDirectory(): void {
  isOutdated = true;
  // A reading that began before the change is nobody's view any more.
  flight = new SingleFlight(PATIENCE_MS);
}

/** @param isCurrent whether the registry has been left alone by this isolate since the reading began */
async function load(env: Env, now: number, isCurrent: () => boolean): Promise<Directory> {
  const known = view;
  askedAt = now;
  const version = await storedVersion(env.ARCHIVE_DB);
  const loaded = known?.version === version ? known : await readDirectory(env.ARCHIVE_DB);
  if (isCurrent()) {
    view = loaded;
    confirmedAt = now;
    isOutdated = false;
  }
  return loaded;
}

async function storedVersion(db: D1Database): Promise<number> {
  const row = await db
    .prepare("SELECT version FROM directory_version WHERE id = 1")
    .first<{ version: number }>();
  return row?.version ?? 0;
}

type EntryRow = Pick<
  UpstreamRow,
  | "name"
  | "config"
  | "auth"
  | "era"
  | "protocol_version"
  | "capabilities"
  | "ttl_ms"
  | "resources"
  | "refreshed_at"
  | "failure"
>;
type ApprovedRow = Pick<
  DefinitionRow,
  "upstream" | "kind" | "name" | "status" | "reads" | "approved" | "approved_pin"
>;

/** Version, upstreams and definitions of one moment: a batch is a transaction. */
async function readDirectory(db: D1Database): Promise<Directory> {
  const [versions, upstreams, definitions] = await db.batch<unknown>([
    db.prepare("SELECT version FROM directory_version WHERE id = 1"),
    db.prepare(
      `SELECT name, config, auth, era, protocol_version, capabilities, ttl_ms, resources, refreshed_at,
         failure FROM upstreams ORDER BY name`,
    ),
    db.prepare(
      `SELECT upstream, kind, name, status, reads, approved, approved_pin
       FROM upstream_definitions WHERE approved_pin IS NOT NULL ORDER BY upstream, kind, name`,
    ),
  ]);
  const version = ((versions?.results ?? []) as { version: number }[])[0]?.version ?? 0;
  const approved = Map.groupBy(
    (definitions?.results ?? []) as ApprovedRow[],
    ({ upstream }) => upstream,
  );
  const rows = (upstreams?.results ?? []) as EntryRow[];
  return new Directory(
    version,
    rows.map((row) => entryOf(row, approved.get(row.name) ?? [])),
  );
}

function entryOf(row: EntryRow, approved: readonly ApprovedRow[]): UpstreamEntry {
  const config = parseConfig(row.config);
  const instructions = approved.find(({ kind }) => kind === INSTRUCTIONS)?.approved;
  return {
    config,
    auth: row.auth,
    era: row.era,
    protocolVersion: row.protocol_version,
    capabilities: parseObject(row.capabilities),
    instructions: instructions == null ? null : String(JSON.parse(instructions)),
    available: row.refreshed_at !== null && row.failure === null,
    ttlMs: row.ttl_ms,
    resources: JSON.parse(row.resources),
    definitions: approved.flatMap((definition) => definitionOf(definition, config.prefix)),
  };
}

function definitionOf(row: ApprovedRow, prefix: string): Definition[] {
  const { kind, name, status, approved, approved_pin } = row;
  if (kind === INSTRUCTIONS || status === "pending" || approved === null || approved_pin === null) {
    return [];
  }
  return [
    {
      kind,
      upstream: row.upstream,
      name,
      exposed: kind === "resource_template" ? name : exposedName(prefix, name),
      definition: parseObject(approved),
      pin: approved_pin,
      status,
      reads: row.reads === 1,
    },
  ];
}
