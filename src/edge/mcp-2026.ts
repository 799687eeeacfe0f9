/**
 * @module
 * `/mcp` in the 2026 era (2026-07-28): every request stands alone. Lists are
 * answered here, without waking an object; a call goes to the session that its
 * handle names, or to the caller's ambient session.
 */
import type * as z from "zod";
import { withoutCredential } from "../audit/redact.ts";
import { headerMismatch, paramMismatch } from "../mcp/headers.ts";
import type { JsonObject, JsonValue } from "../mcp/ijson.ts";
import { jsonObjectSchema } from "../mcp/json-object.ts";
import {
  classifyMessage,
  HEADER_MISMATCH,
  INVALID_PARAMS,
  INVALID_REQUEST,
  METHOD_NOT_FOUND,
  type RpcRequest,
  UNSUPPORTED_VERSION,
} from "../mcp/jsonrpc.ts";
import type { LogLevel } from "../mcp/log-level.ts";
import { declaredHeaders, paramHeadersMismatch } from "../mcp/param-headers.ts";
import { requestMetaSchema } from "../mcp/request-meta.ts";
import { SERVER_INFO, SERVER_INFO_META_KEY } from "../mcp/server-info.ts";
import { rpcResultBody } from "../mcp/tool-result.ts";
import { VERSIONS_2025, VERSIONS_2026 } from "../mcp/versions.ts";
import { sessionStub } from "../objects.ts";
import { ambientOpening } from "../session/ambient.ts";
import { isMintedSessionId, newSessionId } from "../session/ids.ts";
import { openState } from "../session/request-state.ts";
import { isRelayed, SESSION_ARGUMENT } from "../session/routes.ts";
import type { Reply, StatelessCall } from "../session/state.ts";
import { HANDLE_ARGUMENT } from "../session/tool-call.ts";
import { findTool, HANDLE_HEADER, LIST_TTL_MS } from "../tools/index.ts";
import {
  instructionsFor,
  isList,
  type ListMethod,
  listText,
  serverCapabilities,
} from "../tools/lists.ts";
import { beginSession } from "../tools/session.ts";
import { directoryOf } from "../upstream/directory.ts";
import { listen } from "./listen.ts";
import { type Answer, answerOf, type McpRequest } from "./mcp-answer.ts";
import { openContext } from "./open-context.ts";
import { HttpRefusal } from "./refusal.ts";
import { withinQuota } from "./session-quota.ts";

/** Newest first: a client takes the first one that it knows. */
const SUPPORTED = [...VERSIONS_2026, ...VERSIONS_2025.toReversed()];

/** Answers one message of the 2026 era; `version` is what its `_meta` names, if it names one. */
export async function answer2026(
  call: McpRequest,
  payload: JsonValue,
  version: string | null,
): Promise<Answer> {
  const classified = classifyMessage(payload);
  if (classified.kind === "notification") return accepted(call, classified.message.method);
  if (classified.kind !== "request") {
    throw badRequest(INVALID_REQUEST, "The body must be one request or notification.");
  }
  const request = classified.message;
  const { headers } = call.request;
  // Two that differ are a mismatch, whether the gateway knows either of them or not.
  if (version !== null && headers.get("mcp-protocol-version") === version) checkVersion(version);
  const meta = requestMetaSchema.safeParse(request.params?._meta);
  if (!meta.success && version === null) throw badMeta(meta.error);
  const mismatch = headerMismatch(headers, request, version ?? "");
  if (mismatch !== null) throw badRequest(HEADER_MISMATCH, mismatch);
  if (!meta.success) throw badMeta(meta.error);
  const said: Said = {
    version: meta.data["io.modelcontextprotocol/protocolVersion"],
    client: meta.data["io.modelcontextprotocol/clientInfo"] ?? null,
    capabilities: meta.data["io.modelcontextprotocol/clientCapabilities"],
    logLevel: meta.data["io.modelcontextprotocol/logLevel"] ?? null,
  };
  const { method } = request;
  if (isRelayed(method, "2026")) return toSession(call, request, said);
  if (isList(method)) return listed(call, request, method);
  switch (method) {
    case "server/discover":
      return answered(call, request, await discovery(call));
    case "subscriptions/listen":
      call.log({ method, tool: null, error_code: null });
      return { kind: "response", response: await listen(call, request, said.capabilities) };
    default:
      throw new HttpRefusal(404, "NOT_FOUND", "There is no such method.", {
        rpcCode: METHOD_NOT_FOUND,
      });
  }
}

/** What a request says of itself in `_meta`. */
type Said = {
  readonly version: string;
  readonly client: JsonObject | null;
  readonly capabilities: JsonObject;
  readonly logLevel: LogLevel | null;
};

function checkVersion(version: string): void {
  if (VERSIONS_2026.some((supported) => supported === version)) return;
  throw badRequest(UNSUPPORTED_VERSION, `Protocol version ${version} is not supported.`, {
    supported: SUPPORTED,
    requested: version,
  });
}

function badMeta(error: z.ZodError): HttpRefusal {
  const { path, message } = error.issues[0] ?? { path: [], message: "is not as it must be" };
  return badRequest(INVALID_PARAMS, `_meta ${path.map(String).join(".")}: ${message}`);
}

async function listed(call: McpRequest, request: RpcRequest, method: ListMethod): Promise<Answer> {
  const directory = await directoryOf(call.env);
  const text = listText(directory, call.principal, method, "2026", request.params?.cursor);
  if (!text.ok) throw badRequest(INVALID_PARAMS, text.refusal.message);
  return answered(call, request, text.value);
}

/** Takes a request to its session, and sees to it that one more may be opened where it opens one. */
function toSession(call: McpRequest, request: RpcRequest, said: Said): Promise<Answer> {
  const opens = request.method === "tools/call" && request.params?.name === beginSession.name;
  return opens
    ? withinQuota(call, (opened) => throughSession(call, request, said, opened))
    : throughSession(call, request, said, null);
}

/**
 * Takes a request to the session that its handle names, that its sealed state
 * names, or else to the caller's ambient session. `opened` is told of the
 * session that it has opened.
 */
async function throughSession(
  call: McpRequest,
  request: RpcRequest,
  said: Said,
  opened: ((sessionId: string) => void) | null,
): Promise<Answer> {
  const { config, principal, requestId } = call;
  const handle = await handleOf(call, request);
  const base: Omit<StatelessCall, "ambient" | "handleRefused"> = {
    principal,
    request,
    requestId,
    switches: call.switches,
    capabilities: said.capabilities,
    logLevel: said.logLevel,
    protocolVersion: said.version,
    newSessionId: newSessionId(config.sessionIdKey, Date.now()),
    openContext: openContext(call.request, "2026", said.version, said.client),
    ...(call.accessToken === null ? {} : { accessToken: call.accessToken }),
  };
  if (handle !== null && isMintedSessionId(config.sessionIdKey, handle)) {
    const reply = await callSession(call, handle, { ...base, ambient: null, handleRefused: false });
    const answer = await answerOf(call, handle, reply, () => null);
    if (answer !== null) return answer;
  }
  const today = ambientOpening(principal, requestId);
  const begun = handle === null ? ambientOfState(call, request) : null;
  const ambient = begun === null ? today : { ...today, sessionId: begun };
  const asked = { ...base, ambient, handleRefused: handle !== null };
  const reply = await callSession(call, ambient.sessionId, asked);
  if (reply.kind === "reply" && reply.log.error_code === null) opened?.(base.newSessionId);
  const answer = await answerOf(call, ambient.sessionId, reply, () => null);
  if (answer !== null) return answer;
  throw new HttpRefusal(503, "OVERLOADED", "The day is changing. Try again.", {
    headers: { "retry-after": "1" },
  });
}

/** Calls a session, and cancels the call when the client leaves before it is answered. */
async function callSession(
  { env, request, requestId, waitUntil }: McpRequest,
  sessionId: string,
  asked: StatelessCall,
): Promise<Reply> {
  const leave = (): void => waitUntil(sessionStub(env, sessionId).cancel(requestId));
  request.signal.addEventListener("abort", leave);
  try {
    return await sessionStub(env, sessionId).call(asked);
  } finally {
    request.signal.removeEventListener("abort", leave);
  }
}

/**
 * The ambient session that a call without a handle was begun on, should the day
 * have changed since: what waits for its retry waits there. Whether the state
 * may be used is that session's to say.
 */
function ambientOfState(call: McpRequest, request: RpcRequest): string | null {
  const sealed = request.params?.requestState;
  const state = typeof sealed === "string" ? openState(call.config.secretsKey, sealed) : null;
  if (state === null || state.principal !== call.principal.id) return null;
  if (state.tenant !== call.principal.tenant) return null;
  return isMintedSessionId(call.config.sessionIdKey, state.session) ? null : state.session;
}

/**
 * The handle of a call, its header held against the body, as are the upstream's
 * own mirrored arguments. What is no string is left to the tool's own check.
 */
async function handleOf(call: McpRequest, request: RpcRequest): Promise<string | null> {
  const { name, arguments: args } = request.params ?? {};
  if (request.method !== "tools/call" || typeof name !== "string") return null;
  const { headers } = call.request;
  const given = args === undefined ? {} : args;
  if (typeof given !== "object" || given === null || Array.isArray(given)) return null;
  const tool = findTool(name);
  if (tool !== null)
    return tool.takesHandle ? mirroredHandle(headers, given[HANDLE_ARGUMENT]) : null;
  const found = (await directoryOf(call.env)).tool(call.principal, name);
  if (found === null) return null;
  const schema = jsonObjectSchema.safeParse(found.definition.definition.inputSchema);
  const declared = schema.success ? declaredHeaders(schema.data) : null;
  if (declared?.ok === true) {
    const mismatch = paramHeadersMismatch(headers, declared.headers, given);
    if (mismatch !== null) throw badRequest(HEADER_MISMATCH, mismatch);
  }
  return found.entry.config.session_param ? mirroredHandle(headers, given[SESSION_ARGUMENT]) : null;
}

function mirroredHandle(headers: Headers, handle: JsonValue | undefined): string | null {
  const mismatch = paramMismatch(headers, HANDLE_HEADER, handle);
  if (mismatch !== null) throw badRequest(HEADER_MISMATCH, mismatch);
  return handle === undefined || handle === null ? null : String(handle);
}

async function discovery({ env, principal }: McpRequest): Promise<string> {
  const directory = await directoryOf(env);
  return JSON.stringify({
    _meta: { [SERVER_INFO_META_KEY]: { ...SERVER_INFO } },
    resultType: "complete",
    supportedVersions: [...SUPPORTED],
    capabilities: serverCapabilities(directory, principal, "2026"),
    instructions: instructionsFor(directory, principal),
    ttlMs: LIST_TTL_MS,
    cacheScope: "private",
  });
}

function answered(call: McpRequest, request: RpcRequest, resultText: string): Answer {
  call.log({ method: request.method, tool: null, error_code: null });
  return { kind: "body", status: 200, body: rpcResultBody(request.id, resultText), headers: {} };
}

function accepted(call: McpRequest, method: string): Answer {
  call.log({ method: withoutCredential(method), tool: null, error_code: null });
  return { kind: "body", status: 202, body: null, headers: {} };
}

function badRequest(
  rpcCode: number,
  message: string,
  data: Record<string, string | string[]> = {},
): HttpRefusal {
  return new HttpRefusal(400, "INVALID_ARGUMENT", message, { rpcCode, data });
}
