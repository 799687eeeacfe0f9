/**
 * @module
 * `/mcp` in the 2026 era (2026-07-28): every request stands alone. Lists are
 * answered here, without waking an object; a call goes to the session that its
 * handle names, or to the caller's ambient session.
 */
import { withoutCredential } from "../audit/redact.ts";
import { headerMismatch, paramMismatch } from "../mcp/headers.ts";
import type { JsonObject, JsonValue } from "../mcp/ijson.ts";
import {
  classifyMessage,
  HEADER_MISMATCH,
  INVALID_PARAMS,
  INVALID_REQUEST,
  METHOD_NOT_FOUND,
  type RpcRequest,
  UNSUPPORTED_VERSION,
} from "../mcp/jsonrpc.ts";
import { requestMetaSchema } from "../mcp/request-meta.ts";
import { INSTRUCTIONS, SERVER_INFO, SERVER_INFO_META_KEY } from "../mcp/server-info.ts";
import { rpcResultBody } from "../mcp/tool-result.ts";
import { VERSIONS_2025, VERSIONS_2026 } from "../mcp/versions.ts";
import { sessionStub } from "../objects.ts";
import { ambientOpening } from "../session/ambient.ts";
import { isMintedSessionId, newSessionId } from "../session/ids.ts";
import { HANDLE_ARGUMENT } from "../session/tool-call.ts";
import { findTool, HANDLE_HEADER, LIST_TTL_MS, toolListText } from "../tools/index.ts";
import { type Answer, answerOf, type McpRequest } from "./mcp-answer.ts";
import { openContext } from "./open-context.ts";
import { HttpRefusal } from "./refusal.ts";

/** Newest first: a client takes the first one that it knows. */
const SUPPORTED = [...VERSIONS_2026, ...VERSIONS_2025.toReversed()];

/** Answers one message of the 2026 era; `version` is what its `_meta` names. */
export async function answer2026(
  call: McpRequest,
  payload: JsonValue,
  version: string,
): Promise<Answer> {
  const classified = classifyMessage(payload);
  if (classified.kind === "notification") return accepted(call, classified.message.method);
  if (classified.kind !== "request") {
    throw badRequest(INVALID_REQUEST, "The body must be one request or notification.");
  }
  const request = classified.message;
  if (!VERSIONS_2026.some((supported) => supported === version)) {
    throw badRequest(UNSUPPORTED_VERSION, `Protocol version ${version} is not supported.`, {
      supported: SUPPORTED,
      requested: version,
    });
  }
  const mismatch = headerMismatch(call.request.headers, request, version);
  if (mismatch !== null) throw badRequest(HEADER_MISMATCH, mismatch);
  const meta = requestMetaSchema.safeParse(request.params?._meta);
  if (!meta.success) {
    const { path, message } = meta.error.issues[0] ?? { path: [], message: "is not as it must be" };
    throw badRequest(INVALID_PARAMS, `_meta ${path.map(String).join(".")}: ${message}`);
  }
  const client = meta.data["io.modelcontextprotocol/clientInfo"] ?? null;
  switch (request.method) {
    case "server/discover":
      return answered(call, request, JSON.stringify(discovery()));
    case "tools/list":
      if (request.params?.cursor !== undefined) {
        throw badRequest(INVALID_PARAMS, "The list has one page and no cursor.");
      }
      return answered(call, request, toolListText(call.principal.role, "2026"));
    case "tools/call":
      return callTool(call, request, version, client);
    default:
      throw new HttpRefusal(404, "NOT_FOUND", "There is no such method.", {
        rpcCode: METHOD_NOT_FOUND,
      });
  }
}

async function callTool(
  call: McpRequest,
  request: RpcRequest,
  version: string,
  client: JsonObject | null,
): Promise<Answer> {
  const { env, config, principal, requestId } = call;
  const handle = handleOf(call.request.headers, request);
  const base = {
    principal,
    request,
    requestId,
    protocolVersion: version,
    newSessionId: newSessionId(config.sessionIdKey, Date.now()),
    openContext: openContext(call.request, "2026", version, client),
  };
  if (handle !== null && isMintedSessionId(config.sessionIdKey, handle)) {
    const reply = await sessionStub(env, handle).call({
      ...base,
      ambient: null,
      handleRefused: false,
    });
    const answer = answerOf(call, handle, reply);
    if (answer !== null) return answer;
  }
  const ambient = ambientOpening(principal, requestId);
  const reply = await sessionStub(env, ambient.sessionId).call({
    ...base,
    ambient,
    handleRefused: handle !== null,
  });
  const answer = answerOf(call, ambient.sessionId, reply);
  if (answer !== null) return answer;
  throw new HttpRefusal(503, "OVERLOADED", "The day is changing. Try again.", {
    headers: { "retry-after": "1" },
  });
}

/**
 * The handle of a call, its header held against the body. What is no string is
 * left to the tool's own check of its arguments.
 */
function handleOf(headers: Headers, request: RpcRequest): string | null {
  const { name, arguments: args } = request.params ?? {};
  const tool = typeof name === "string" ? findTool(name) : null;
  if (tool === null || !tool.takesHandle) return null;
  if (typeof args !== "object" || args === null || Array.isArray(args)) return null;
  const handle = args[HANDLE_ARGUMENT];
  const mismatch = paramMismatch(headers, HANDLE_HEADER, handle);
  if (mismatch !== null) throw badRequest(HEADER_MISMATCH, mismatch);
  return handle === undefined || handle === null ? null : String(handle);
}

function discovery(): JsonObject {
  return {
    _meta: { [SERVER_INFO_META_KEY]: { ...SERVER_INFO } },
    resultType: "complete",
    supportedVersions: [...SUPPORTED],
    capabilities: { tools: {} },
    instructions: INSTRUCTIONS,
    ttlMs: LIST_TTL_MS,
    cacheScope: "private",
  };
}

function answered(call: McpRequest, request: RpcRequest, resultText: string): Answer {
  call.log({ method: request.method, tool: null, error_code: null });
  return { status: 200, body: rpcResultBody(request.id, resultText), headers: {} };
}

function accepted(call: McpRequest, method: string): Answer {
  call.log({ method: withoutCredential(method), tool: null, error_code: null });
  return { status: 202, body: null, headers: {} };
}

function badRequest(
  rpcCode: number,
  message: string,
  data: Record<string, string | string[]> = {},
): HttpRefusal {
  return new HttpRefusal(400, "INVALID_ARGUMENT", message, { rpcCode, data });
}
