/**
 * @module
 * Custom headers from tool parameters (2026-07-28, Streamable HTTP, "Custom
 * Headers from Tool Parameters"): which arguments a tool's schema mirrors into
 * `Mcp-Param-*` headers, what a client sends for them, and what a server checks.
 */
import { encodeHeaderValue, paramMismatch } from "./headers.ts";
import type { JsonObject, JsonValue } from "./ijson.ts";

/** A parameter that is mirrored: the part of the header's name after `Mcp-Param-`, and where its argument is. */
export type DeclaredHeader = { readonly name: string; readonly path: readonly string[] };

export type DeclaredHeaders =
  | { readonly ok: true; readonly headers: readonly DeclaredHeader[] }
  /** The tool must not be offered; `message` says why in one sentence. */
  | { readonly ok: false; readonly message: string };

const ANNOTATION = "x-mcp-header";

/** RFC 9110, section 5.6.2: `1*tchar`. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

const MIRRORED_TYPES: readonly JsonValue[] = ["string", "integer", "boolean"];

/** Keywords whose value maps names that the author chose to schemas: the names are no keywords. */
const NAME_MAPS = new Set([
  "properties",
  "patternProperties",
  "$defs",
  "definitions",
  "dependentSchemas",
  "dependencies",
]);

/** Keywords whose value is data: an `x-mcp-header` in it annotates nothing. */
const DATA = new Set(["const", "default", "enum", "examples", "example"]);

/** Of the schema's own text in a message. */
const MAX_QUOTED_CHARS = 128;

/** A part of the schema that is still to be looked at. `path` is null where no chain of `properties` leads. */
type Place = { value: JsonValue; path: readonly string[] | null; isNameMap: boolean };

/**
 * The headers that a tool's `inputSchema` declares, in its order; refused where
 * any annotation breaks a rule: no token, there twice (whatever the case), on
 * anything but a string, an integer or a boolean, or where no chain of
 * `properties` alone leads to it from the root.
 *
 * Schemas come from strangers, so the walk keeps its own stack.
 */
export function declaredHeaders(inputSchema: JsonObject): DeclaredHeaders {
  const headers: DeclaredHeader[] = [];
  const taken = new Set<string>();
  const places: Place[] = [{ value: inputSchema, path: [], isNameMap: false }];
  for (let place = places.pop(); place !== undefined; place = places.pop()) {
    const { value, path, isNameMap } = place;
    if (Array.isArray(value)) {
      for (const element of value) places.push({ value: element, path: null, isNameMap: false });
      continue;
    }
    if (!isObject(value)) continue;
    if (!isNameMap && Object.hasOwn(value, ANNOTATION)) {
      const problem = problemOf(value, path, taken);
      if (problem !== null) return { ok: false, message: problem };
      const name = String(value[ANNOTATION]);
      taken.add(name.toLowerCase());
      headers.push({ name, path: path ?? [] });
    }
    // Pushed in reverse, so that they are looked at in the order of the schema.
    for (const [key, member] of Object.entries(value).reverse()) {
      if (isNameMap) {
        places.push({ value: member, path: path && [...path, key], isNameMap: false });
      } else if (!DATA.has(key) && key !== ANNOTATION) {
        const isReached = key === "properties" && isObject(member);
        const isMap = NAME_MAPS.has(key) && isObject(member);
        places.push({ value: member, path: isReached ? path : null, isNameMap: isMap });
      }
    }
  }
  return { ok: true, headers };
}

/**
 * What a client sends with a call: one header for each declared argument that
 * is there and not null. What no header can mirror (an object, a number that is
 * no safe integer) is left out; the server refuses such a call by its schema.
 */
export function paramHeaders(
  declared: readonly DeclaredHeader[],
  args: JsonObject,
): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const { name, path } of declared) {
    const value = valueAt(args, path);
    const isMirrored =
      typeof value === "string" || typeof value === "boolean" || Number.isSafeInteger(value);
    if (isMirrored) headers[`Mcp-Param-${name}`] = encodeHeaderValue(String(value));
  }
  return headers;
}

/** What a server checks: null when every declared header mirrors its argument, else what is wrong. */
export function paramHeadersMismatch(
  headers: Headers,
  declared: readonly DeclaredHeader[],
  args: JsonObject,
): string | null {
  for (const { name, path } of declared) {
    const mismatch = paramMismatch(headers, name, valueAt(args, path));
    if (mismatch !== null) return mismatch;
  }
  return null;
}

function problemOf(
  schema: JsonObject,
  path: readonly string[] | null,
  taken: ReadonlySet<string>,
): string | null {
  const name = schema[ANNOTATION];
  const quoted = JSON.stringify(name ?? null).slice(0, MAX_QUOTED_CHARS);
  if (path === null || path.length === 0) {
    return `The ${ANNOTATION} ${quoted} is on no parameter that a chain of properties leads to.`;
  }
  if (typeof name !== "string" || !TOKEN.test(name)) {
    return `The ${ANNOTATION} ${quoted} is not a header name.`;
  }
  if (!MIRRORED_TYPES.includes(schema.type ?? null)) {
    return `The ${ANNOTATION} ${quoted} is on a parameter that is not of type string, integer or boolean.`;
  }
  return taken.has(name.toLowerCase()) ? `The ${ANNOTATION} ${quoted} is there twice.` : null;
}

/** The argument at a path, by own members only. */
function valueAt(args: JsonObject, path: readonly string[]): JsonValue | undefined {
  let value: JsonValue | undefined = args;
  for (const key of path) {
    if (!isObject(value) || !Object.hasOwn(value, key)) return undefined;
    value = value[key];
  }
  return value;
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
