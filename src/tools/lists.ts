/**
 * @module
 * What a caller is shown: the gateway's own tools and the approved definitions
 * of the upstreams that the caller may use. A list depends on who asks, never
 * on a session or a plan, so that it is answered without waking either.
 */
import type { Principal } from "../edge/principal.ts";
import type { JsonObject, JsonValue } from "../mcp/ijson.ts";
import { OWN_META_PREFIX } from "../mcp/relay-result.ts";
import { INSTRUCTIONS, SERVER_INFO, SERVER_INFO_META_KEY } from "../mcp/server-info.ts";
import { allow, type Decision, refuse } from "../policy/errors.ts";
import { mayUseTool } from "../policy/tool-list.ts";
import { SESSION_ARGUMENT } from "../session/routes.ts";
import type { Directory } from "../upstream/directory.ts";
import type { Definition, UpstreamEntry } from "../upstream/types.ts";
import { decodeCursor, encodeCursor } from "./cursor.ts";
import { builtInListings, HANDLE_HEADER, LIST_TTL_MS } from "./index.ts";

/** Items of one page. */
const PAGE_ITEMS = 500;

export type Era = "2025" | "2026";

export const LISTS = {
  "tools/list": "tools",
  "prompts/list": "prompts",
  "resources/list": "resources",
  "resources/templates/list": "resourceTemplates",
} as const;

export type ListMethod = keyof typeof LISTS;

export function isList(method: string): method is ListMethod {
  return Object.hasOwn(LISTS, method);
}

/** The result of a list, as text: one page, in an order that does not change. */
export function listText(
  directory: Directory,
  principal: Principal,
  method: ListMethod,
  era: Era,
  cursor: JsonValue | undefined,
): Decision<string> {
  if (cursor !== undefined && typeof cursor !== "string") {
    return refuse("INVALID_ARGUMENT", "cursor: must be a nextCursor of an earlier answer");
  }
  const place = decodeCursor(cursor);
  if (!place.ok) return place;
  const first = place.value === "" ? 0 : Number(place.value);
  if (!Number.isSafeInteger(first) || first < 0) {
    return refuse("INVALID_ARGUMENT", "cursor: must be a nextCursor of an earlier answer");
  }
  const key = JSON.stringify([
    method,
    era,
    first,
    principal.tenant,
    principal.role,
    principal.upstreams,
    principal.tools,
  ]);
  return allow(cached(directory, key, () => page(directory, principal, method, era, first)));
}

/** Texts by caller and list, for the directory that they were made of. */
const texts = new WeakMap<Directory, Map<string, string>>();
/** Lists kept for one directory: as many as there are kinds of callers, in practice. */
const MAX_TEXTS = 200;

function cached(directory: Directory, key: string, make: () => string): string {
  let known = texts.get(directory);
  if (known === undefined) {
    known = new Map();
    texts.set(directory, known);
  }
  const text = known.get(key) ?? make();
  if (known.size < MAX_TEXTS) known.set(key, text);
  return text;
}

function page(
  directory: Directory,
  principal: Principal,
  method: ListMethod,
  era: Era,
  first: number,
): string {
  const all = items(directory, principal, method, era);
  const shown = all.slice(first, first + PAGE_ITEMS);
  const next = first + PAGE_ITEMS;
  const missing = directory.unavailable(principal);
  const meta: JsonObject = {
    ...(era === "2026" ? { [SERVER_INFO_META_KEY]: { ...SERVER_INFO } } : {}),
    // A partial list says of which upstreams it may be out of date.
    ...(missing.length > 0 ? { [`${OWN_META_PREFIX}unavailable`]: missing } : {}),
  };
  const ttls = directory.visible(principal).flatMap(({ ttlMs }) => (ttlMs === null ? [] : [ttlMs]));
  return JSON.stringify({
    ...(Object.keys(meta).length > 0 ? { _meta: meta } : {}),
    ...(era === "2026" ? { resultType: "complete" } : {}),
    [LISTS[method]]: shown,
    ...(next < all.length ? { nextCursor: encodeCursor(String(next)) } : {}),
    ...(era === "2026" ? { ttlMs: Math.min(LIST_TTL_MS, ...ttls), cacheScope: "private" } : {}),
  });
}

function items(
  directory: Directory,
  principal: Principal,
  method: ListMethod,
  era: Era,
): JsonObject[] {
  switch (method) {
    case "tools/list":
      return [
        ...builtInListings(principal.role, era).filter(({ name }) =>
          mayUseTool(principal.tools, String(name)),
        ),
        ...directory.tools(principal).map((found) => shownTool(found, era)),
      ].sort((a, b) => compare(String(a.name), String(b.name)));
    case "prompts/list":
      return directory.prompts(principal).map(shown);
    case "resources/templates/list":
      return directory.templates(principal).map(({ definition }) => definition.definition);
    case "resources/list":
      return directory.resources(principal).map(({ resource }) => resource);
  }
}

type Found = { readonly entry: UpstreamEntry; readonly definition: Definition };

function shown({ definition }: Found): JsonObject {
  return { ...definition.definition, name: definition.exposed };
}

/** A tool as an era may have it: no core tasks, and in the 2025 era no structured content but objects. */
function shownTool(found: Found, era: Era): JsonObject {
  const { execution: _tasks, ...tool } = shown(found);
  if (era === "2025") {
    const { outputSchema, ...rest } = tool;
    return isObject(outputSchema) && outputSchema.type === "object" ? tool : rest;
  }
  if (!found.entry.config.session_param || !isObject(tool.inputSchema)) return tool;
  const { properties } = tool.inputSchema;
  return {
    ...tool,
    inputSchema: {
      ...tool.inputSchema,
      properties: {
        ...(isObject(properties) ? properties : {}),
        // Last: whoever looks for the upstream's own mirrored parameters finds those first.
        [SESSION_ARGUMENT]: {
          type: "string",
          description: "The session_id that begin_session answered with.",
          "x-mcp-header": HANDLE_HEADER,
        },
      },
    },
  };
}

/** What the gateway can do, in either era: the most that upstreams may come to need, for a session cannot be told of more. */
export function serverCapabilities(
  directory: Directory,
  principal: Principal,
  era: Era,
): JsonObject {
  return {
    tools: { listChanged: true },
    prompts: { listChanged: true },
    resources: { subscribe: true, listChanged: true },
    completions: {},
    logging: {},
    ...(era === "2026" ? extensions(directory, principal) : {}),
  };
}

/** The extensions that the gateway relays, where an upstream has them. */
function extensions(directory: Directory, principal: Principal): JsonObject {
  const relayed: JsonObject = {};
  for (const { capabilities } of directory.visible(principal)) {
    const own = isObject(capabilities.extensions) ? capabilities.extensions : {};
    for (const name of RELAYED_EXTENSIONS) {
      const settings = own[name];
      if (isObject(settings)) relayed[name] = settings;
    }
  }
  return Object.keys(relayed).length === 0 ? {} : { extensions: relayed };
}

const RELAYED_EXTENSIONS = ["io.modelcontextprotocol/tasks"];

/** The gateway's own instructions, and those of the upstreams that an operator approved. */
export function instructionsFor(directory: Directory, principal: Principal): string {
  const upstream = directory.instructions(principal);
  return upstream === null ? INSTRUCTIONS : `${INSTRUCTIONS}\n\n${upstream}`;
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
