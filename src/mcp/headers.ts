/**
 * @module
 * The request metadata headers of 2026-07-28 (Streamable HTTP, Request
 * Metadata): parts of the body mirrored into headers, so that whoever routes by
 * a header and whoever acts on the body decide about the same call.
 */
import type { JsonObject, JsonValue } from "./ijson.ts";
import type { RpcRequest } from "./jsonrpc.ts";

const SENTINEL_START = "=?base64?";
const SENTINEL_END = "?=";
/** Visible ASCII, space and tab (RFC 9110, field values). */
const PLAIN = /^[\t\x20-\x7e]*$/;

/** Which member of `params` the `Mcp-Name` header mirrors, by method. */
const NAMED_BY: Readonly<Record<string, "name" | "uri" | "taskId">> = {
  "tools/call": "name",
  "prompts/get": "name",
  "resources/read": "uri",
  "tasks/get": "taskId",
  "tasks/update": "taskId",
  "tasks/cancel": "taskId",
};

/**
 * The value that a header carries: as it stands, or decoded from the Base64
 * sentinel. Null for invalid characters, and for what is not the Base64 of
 * well-formed UTF-8.
 */
export function decodeHeaderValue(value: string): string | null {
  if (!PLAIN.test(value)) return null;
  if (!value.startsWith(SENTINEL_START) || !value.endsWith(SENTINEL_END)) return value;
  if (value.length < SENTINEL_START.length + SENTINEL_END.length) return value;
  const base64 = value.slice(SENTINEL_START.length, -SENTINEL_END.length);
  if (base64.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(base64)) return null;
  try {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

/**
 * The value as a header can carry it: as it stands where that is safe, else in
 * the Base64 sentinel. So is the empty string, for empty fields get lost on the
 * way. Half a surrogate pair has no UTF-8 form and becomes U+FFFD.
 */
export function encodeHeaderValue(value: string): string {
  const looksEncoded = value.startsWith(SENTINEL_START) && value.endsWith(SENTINEL_END);
  if (PLAIN.test(value) && !/^$|^[\t ]|[\t ]$/.test(value) && !looksEncoded) return value;
  const bytes = new TextEncoder().encode(value);
  const chars = Array.from(bytes, (byte) => String.fromCharCode(byte));
  return `${SENTINEL_START}${btoa(chars.join(""))}${SENTINEL_END}`;
}

/** The value of `Mcp-Name` for a request, encoded; null for a method that has none. */
export function nameHeader(method: string, params: JsonObject | undefined): string | null {
  const member = NAMED_BY[method];
  const name = member === undefined ? undefined : params?.[member];
  return typeof name === "string" ? encodeHeaderValue(name) : null;
}

/**
 * Holds the standard headers against the body. Null when they agree, else what
 * is wrong, for a `HEADER_MISMATCH` error. `version` is the one that the body's
 * `_meta` names.
 */
export function headerMismatch(
  headers: Headers,
  request: RpcRequest,
  version: string,
): string | null {
  const sentVersion = headers.get("mcp-protocol-version");
  if (sentVersion === null) return "The MCP-Protocol-Version header is missing.";
  if (sentVersion !== version) {
    return "The MCP-Protocol-Version header is not the version in the body's _meta.";
  }
  const method = headers.get("mcp-method");
  if (method === null) return "The Mcp-Method header is missing.";
  if (method !== request.method) return "The Mcp-Method header is not the body's method.";
  const member = NAMED_BY[request.method];
  if (member === undefined) return null;
  const name = headers.get("mcp-name");
  if (name === null) return "The Mcp-Name header is missing.";
  return decodeHeaderValue(name) === request.params?.[member]
    ? null
    : `The Mcp-Name header is not the body's params.${member}.`;
}

/**
 * Holds one `Mcp-Param-*` header against the argument that its tool's schema
 * mirrors. An argument that is missing or null has no header.
 */
export function paramMismatch(
  headers: Headers,
  headerName: string,
  argument: JsonValue | undefined,
): string | null {
  const header = `Mcp-Param-${headerName}`;
  const sent = headers.get(header);
  if (argument === undefined || argument === null) {
    return sent === null ? null : `The ${header} header is sent, but its argument is not.`;
  }
  if (sent === null) return `The ${header} header is missing.`;
  const decoded = decodeHeaderValue(sent);
  if (decoded === null) return `The ${header} header has invalid characters.`;
  return sameValue(decoded, argument) ? null : `The ${header} header is not its argument.`;
}

/** Integers are compared as numbers: `42.0` is 42. */
function sameValue(text: string, value: JsonValue): boolean {
  if (typeof value === "string") return text === value;
  if (typeof value === "boolean") return text === String(value);
  return typeof value === "number" && text.trim() !== "" && Number(text) === value;
}
