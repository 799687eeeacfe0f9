/**
 * @module
 * JSON-RPC 2.0 as MCP narrows it: an id is a string or an integer and never
 * null, `params` is an object. Members that nobody knows are kept, and a
 * classified message is the very object that came in, never a copy.
 */
import type { JsonObject, JsonValue } from "./ijson.ts";

export type RequestId = string | number;

export type RpcRequest = { jsonrpc: "2.0"; id: RequestId; method: string; params?: JsonObject };
export type RpcNotification = { jsonrpc: "2.0"; method: string; params?: JsonObject };
export type RpcResultResponse = { jsonrpc: "2.0"; id: RequestId; result: JsonObject };
export type RpcErrorObject = { code: number; message: string; data?: JsonValue };
/** Without an id when the request's could not be read; JSON-RPC peers that are not MCP's write null then. */
export type RpcErrorResponse = {
  jsonrpc: "2.0";
  id?: RequestId | null;
  error: RpcErrorObject;
};
export type RpcResponse = RpcResultResponse | RpcErrorResponse;

export type ClassifiedMessage =
  | { kind: "request"; message: RpcRequest }
  | { kind: "notification"; message: RpcNotification }
  | { kind: "response"; message: RpcResponse }
  | { kind: "invalid"; id: RequestId | null; message: string };

export const PARSE_ERROR = -32700;
export const INVALID_REQUEST = -32600;
export const METHOD_NOT_FOUND = -32601;
export const INVALID_PARAMS = -32602;
export const INTERNAL_ERROR = -32603;

/** 2026-07-28 `HEADER_MISMATCH`: a mirrored header is missing, malformed or not what the body says. No `data`. */
export const HEADER_MISMATCH = -32020;
/** 2026-07-28 `MISSING_REQUIRED_CLIENT_CAPABILITY`; `data: {requiredCapabilities: ClientCapabilities}`. */
export const MISSING_CAPABILITY = -32021;
/** 2026-07-28 `UNSUPPORTED_PROTOCOL_VERSION`; `data: {supported: string[], requested: string}`. */
export const UNSUPPORTED_VERSION = -32022;

/** The code of the gateway's own refusals, outside the range that JSON-RPC reserves (-32768 to -32000). */
export function gatewayErrorCode(httpStatus: number): number {
  return -(31000 + httpStatus);
}

/**
 * Says what one message of a body is; an array is not a message but a batch,
 * whose elements are. `invalid` carries the id where there is a usable one, and
 * says in one sentence what is wrong.
 */
export function classifyMessage(value: JsonValue): ClassifiedMessage {
  if (!isObject(value)) return { kind: "invalid", id: null, message: "A message is an object." };
  if (isRequest(value)) return { kind: "request", message: value };
  if (isNotification(value)) return { kind: "notification", message: value };
  if (isResponse(value)) return { kind: "response", message: value };
  const id = isRequestId(value.id) ? value.id : null;
  return { kind: "invalid", id, message: problemOf(value) };
}

export function rpcResult(id: RequestId, result: JsonObject): RpcResultResponse {
  return { jsonrpc: "2.0", id, result };
}

/**
 * With `null`, the answer to a request whose id could not be read, it has no
 * `id`: MCP's schema since 2025-11-25 has it absent or a string or number, and
 * clients that check against it refuse null.
 */
export function rpcError(
  id: RequestId | null,
  code: number,
  message: string,
  data?: JsonValue,
): RpcErrorResponse {
  const error = data === undefined ? { code, message } : { code, message, data };
  return id === null ? { jsonrpc: "2.0", error } : { jsonrpc: "2.0", id, error };
}

function isObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isRequestId(value: JsonValue | undefined): value is RequestId {
  return typeof value === "string" || Number.isInteger(value);
}

function isCall(value: JsonObject): boolean {
  return (
    value.jsonrpc === "2.0" &&
    typeof value.method === "string" &&
    (value.params === undefined || isObject(value.params))
  );
}

function isRequest(value: JsonObject): value is RpcRequest {
  return isCall(value) && isRequestId(value.id);
}

function isNotification(value: JsonObject): value is RpcNotification {
  return isCall(value) && value.id === undefined;
}

function isResponse(value: JsonObject): value is RpcResponse {
  if (value.jsonrpc !== "2.0" || value.method !== undefined) return false;
  if (value.error === undefined) return isRequestId(value.id) && isObject(value.result);
  const isIdFit = value.id === undefined || value.id === null || isRequestId(value.id);
  return value.result === undefined && isIdFit && isErrorObject(value.error);
}

function isErrorObject(value: JsonValue): boolean {
  return isObject(value) && Number.isInteger(value.code) && typeof value.message === "string";
}

/** What keeps an object from being a message; to be asked only about one that is none. */
function problemOf(value: JsonObject): string {
  if (value.jsonrpc !== "2.0") return '`jsonrpc` must be "2.0".';
  const { method, params, result, error } = value;
  if (method !== undefined) {
    if (typeof method !== "string") return "`method` must be a string.";
    if (params !== undefined && !isObject(params)) return "`params` must be an object.";
    return "`id` must be a string or an integer.";
  }
  if (result === undefined && error === undefined)
    return "A message has a `method`, a `result` or an `error`.";
  if (result !== undefined && error !== undefined)
    return "A response has a `result` or an `error`, not both.";
  if (error !== undefined && !isErrorObject(error))
    return "`error` must be an object with an integer `code` and a string `message`.";
  if (result !== undefined && !isObject(result)) return "`result` must be an object.";
  return "`id` must be a string or an integer.";
}
