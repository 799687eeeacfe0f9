/**
 * @module
 * What an upstream offers at this moment, read whole and within bounds, each
 * definition with its pin. Everything in it is the upstream's own text: data.
 */
import { withoutCredential } from "../audit/redact.ts";
import type { JsonObject, JsonValue } from "../mcp/ijson.ts";
import { METHOD_NOT_FOUND } from "../mcp/jsonrpc.ts";
import { declaredHeaders } from "../mcp/param-headers.ts";
import type { Connect, Connection, ListMethod, UpstreamReader } from "./connect.ts";
import { exposedName, nameProblem } from "./naming.ts";
import { pinOf } from "./pins.ts";
import type {
  DefinitionKind,
  UpstreamConfig,
  WireFailure,
  WireOutcome,
  WireTarget,
} from "./types.ts";

/** Instructions are pinned like all else that reaches an agent; an upstream has them once. */
export type StoredKind = DefinitionKind | "instructions";
export const INSTRUCTIONS = "instructions";

/** One definition: bytes of its JSON. Two copies of it share a row of D1, which holds 2 MB. */
export const MAX_DEFINITION_BYTES = 256 * 1024;
/** All definitions of an upstream: bytes of JSON. */
export const MAX_CATALOGUE_BYTES = 4 * 1024 * 1024;
/** Tools, prompts and templates, each. */
export const MAX_ITEMS = 1_000;
export const MAX_PAGES = 100;
/** The list of resources, which is one column of a row: bytes of JSON. */
export const MAX_RESOURCES_BYTES = 1024 * 1024;
/** What an upstream says of itself, bytes of JSON. */
const MAX_CAPABILITIES_BYTES = 16 * 1024;
const MAX_SERVER_INFO_BYTES = 4 * 1024;
const MAX_NAME_CHARS = 1_024;
const MAX_LEFT_OUT = 200;
const MAX_FAILURE_CHARS = 500;
/** All lists together: a refresh is waited for by an operator, or by a cron run. */
const MAX_READING_MS = 120_000;

export type FoundDefinition = {
  readonly kind: StoredKind;
  readonly name: string;
  /** JSON, its members in the upstream's order. */
  readonly text: string;
  readonly pin: string;
};

/** Something that was found and is not offered. */
export type LeftOut = { readonly kind: string; readonly name: string; readonly reason: string };

export type Found = {
  readonly era: "2025" | "2026";
  readonly protocolVersion: string;
  readonly capabilities: JsonObject;
  readonly serverInfo: JsonObject | null;
  readonly ttlMs: number | null;
  readonly definitions: readonly FoundDefinition[];
  readonly resources: readonly JsonObject[];
  readonly leftOut: readonly LeftOut[];
};

export type Observation =
  | { readonly ok: true; readonly found: Found }
  /** For an operator, in a sentence or two. */
  | { readonly ok: false; readonly failure: string };

/** What of capabilities makes which lists worth asking for. */
const LISTS = [
  { method: "tools/list", member: "tools", kind: "tool", capability: "tools", key: "name" },
  { method: "prompts/list", member: "prompts", kind: "prompt", capability: "prompts", key: "name" },
  {
    method: "resources/templates/list",
    member: "resourceTemplates",
    kind: "resource_template",
    capability: "resources",
    key: "uriTemplate",
  },
] as const;

/** Thrown inside, where a list cannot be read to its end: half a catalogue would look like tools that are gone. */
class Unreadable extends Error {}

/** Reads all that an upstream offers. A failure of any part is one of the whole. */
export async function observe(
  connect: Connect,
  target: WireTarget,
  config: UpstreamConfig,
): Promise<Observation> {
  try {
    const connected = await connect(target, config);
    if (!connected.ok) return { ok: false, failure: failureText(connected.failure) };
    const { connection } = connected;
    try {
      return { ok: true, found: await readAll(connection, config) };
    } finally {
      await connection.reader.close();
    }
  } catch (error) {
    if (error instanceof Unreadable) return { ok: false, failure: operatorText(error.message) };
    throw error;
  }
}

async function readAll(connection: Connection, config: UpstreamConfig): Promise<Found> {
  const { capabilities, serverInfo, reader } = connection;
  if (bytesOf(capabilities) > MAX_CAPABILITIES_BYTES) {
    throw new Unreadable(`Its capabilities are over ${MAX_CAPABILITIES_BYTES} bytes.`);
  }
  const catalogue = new Catalogue(config);
  const ttls: (number | null)[] = [connection.ttlMs];
  const deadline = Date.now() + MAX_READING_MS;
  if (connection.instructions !== null && connection.instructions !== "") {
    catalogue.add(INSTRUCTIONS, INSTRUCTIONS, connection.instructions);
  }
  for (const { method, member, kind, capability, key } of LISTS) {
    if (!Object.hasOwn(capabilities, capability)) continue;
    for await (const page of pagesOf(reader, method, deadline)) {
      ttls.push(ttlOf(page));
      for (const item of itemsOf(page, member)) catalogue.addItem(kind, item, key);
    }
  }
  if (Object.hasOwn(capabilities, "resources")) {
    let bytes = 0;
    for await (const page of pagesOf(reader, "resources/list", deadline)) {
      ttls.push(ttlOf(page));
      for (const item of itemsOf(page, "resources")) {
        bytes += bytesOf(item) + 1;
        if (bytes <= MAX_RESOURCES_BYTES) catalogue.addResource(item);
      }
      if (bytes > MAX_RESOURCES_BYTES) {
        catalogue.leaveOut("resource", "", `The list is over ${MAX_RESOURCES_BYTES} bytes.`);
        break;
      }
    }
  }
  const known = ttls.filter((ttl) => ttl !== null);
  return {
    era: connection.era,
    protocolVersion: connection.protocolVersion,
    capabilities,
    serverInfo:
      serverInfo !== null && bytesOf(serverInfo) <= MAX_SERVER_INFO_BYTES ? serverInfo : null,
    ttlMs: known.length === 0 ? null : Math.min(...known),
    definitions: catalogue.definitions,
    resources: catalogue.resources,
    leftOut: catalogue.leftOut,
  };
}

/** The definitions as they are gathered, each checked before it counts. */
class Catalogue {
  readonly definitions: FoundDefinition[] = [];
  readonly resources: JsonObject[] = [];
  readonly leftOut: LeftOut[] = [];
  readonly #config: UpstreamConfig;
  readonly #seen = new Set<string>();
  #bytes = 0;

  constructor(config: UpstreamConfig) {
    this.#config = config;
  }

  addItem(kind: DefinitionKind, item: JsonObject, key: "name" | "uriTemplate"): void {
    const name = item[key];
    if (typeof name !== "string" || name.length > MAX_NAME_CHARS) {
      this.leaveOut(kind, "", `Its ${key} is no text of at most ${MAX_NAME_CHARS} characters.`);
      return;
    }
    const problem =
      kind === "resource_template"
        ? nameProblem("prompt", name)
        : (nameProblem(kind, exposedName(this.#config.prefix, name)) ??
          (kind === "tool" ? schemaProblem(item, this.#config) : null));
    if (problem !== null) this.leaveOut(kind, name, problem);
    else if (this.#seen.has(`${kind}\n${name}`)) this.leaveOut(kind, name, "It is listed twice.");
    else this.add(kind, name, item);
  }

  add(kind: StoredKind, name: string, definition: JsonValue): void {
    const text = JSON.stringify(definition);
    const bytes = Buffer.byteLength(text);
    if (bytes > MAX_DEFINITION_BYTES) {
      this.leaveOut(kind, name, `Its definition is over ${MAX_DEFINITION_BYTES} bytes.`);
      return;
    }
    let pin: string;
    try {
      pin = pinOf(definition);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      this.leaveOut(kind, name, "Its definition has no canonical JSON form.");
      return;
    }
    this.#seen.add(`${kind}\n${name}`);
    this.#bytes += bytes;
    if (this.#bytes > MAX_CATALOGUE_BYTES) {
      throw new Unreadable(`Its definitions are over ${MAX_CATALOGUE_BYTES} bytes.`);
    }
    this.definitions.push({ kind, name, text, pin });
    if (this.definitions.filter((other) => other.kind === kind).length > MAX_ITEMS) {
      throw new Unreadable(`It lists more than ${MAX_ITEMS} of kind ${kind}.`);
    }
  }

  addResource(item: JsonObject): void {
    if (typeof item.uri === "string" && item.uri !== "") this.resources.push(item);
    else this.leaveOut("resource", "", "It has no URI.");
  }

  leaveOut(kind: string, name: string, reason: string): void {
    if (this.leftOut.length >= MAX_LEFT_OUT) return;
    this.leftOut.push({ kind, name: operatorText(name).slice(0, 128), reason });
  }
}

/** Why a tool cannot be offered because of its schema; null when it can. */
function schemaProblem(tool: JsonObject, config: UpstreamConfig): string | null {
  const { inputSchema } = tool;
  if (!isObject(inputSchema) || inputSchema.type !== "object") {
    return "Its inputSchema is no schema of an object.";
  }
  const declared = declaredHeaders(inputSchema);
  if (!declared.ok) return declared.message;
  if (declared.headers.some(({ name }) => name.toLowerCase() === "atlas-session")) {
    return "Its x-mcp-header Atlas-Session is the gateway's own.";
  }
  const { properties } = inputSchema;
  if (config.session_param && isObject(properties) && Object.hasOwn(properties, "atlas_session")) {
    return "Its argument atlas_session is the gateway's own. Turn session_param off to offer it.";
  }
  return null;
}

/** The pages of a list, whose cursors lead somewhere new; a method that is not there is an empty list. */
async function* pagesOf(
  reader: UpstreamReader,
  method: ListMethod,
  deadline: number,
): AsyncGenerator<JsonObject> {
  const cursors = new Set<string>();
  let cursor: string | null = null;
  for (let pages = 1; ; pages++) {
    if (Date.now() > deadline) throw new Unreadable(`Its lists take over ${MAX_READING_MS} ms.`);
    const outcome: WireOutcome = await reader.list(method, cursor);
    if (outcome.kind === "failed") {
      throw new Unreadable(`${method}: ${failureText(outcome.failure)}`);
    }
    if (outcome.kind === "error") {
      if (outcome.error.code === METHOD_NOT_FOUND && cursor === null) return;
      throw new Unreadable(`${method} is an error: ${outcome.error.code}.`);
    }
    yield outcome.result;
    const next: JsonValue | undefined = outcome.result.nextCursor;
    if (typeof next !== "string") return;
    if (cursors.has(next)) throw new Unreadable(`${method} leads in a circle.`);
    if (pages >= MAX_PAGES) throw new Unreadable(`${method} has more than ${MAX_PAGES} pages.`);
    cursors.add(next);
    cursor = next;
  }
}

function itemsOf(page: JsonObject, member: string): JsonObject[] {
  const items = page[member];
  if (!Array.isArray(items)) throw new Unreadable(`A page has no list of ${member}.`);
  return items.filter(isObject);
}

function ttlOf({ ttlMs }: JsonObject): number | null {
  return typeof ttlMs === "number" && ttlMs >= 0 ? Math.floor(ttlMs) : null;
}

function failureText({ reason, detail, httpStatus }: WireFailure): string {
  const status = httpStatus === null ? "" : `, HTTP ${httpStatus}`;
  return operatorText(`${reason}${status}: ${detail}`);
}

/** Text that may come from outside, for an answer of the admin API: short, in one line, no credential. */
export function operatorText(text: string): string {
  const line = text.toWellFormed().replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, " ");
  return withoutCredential(line.slice(0, MAX_FAILURE_CHARS));
}

function bytesOf(value: JsonValue): number {
  return Buffer.byteLength(JSON.stringify(value));
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
