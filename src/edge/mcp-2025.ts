/**
 * @module
 * `/mcp` in the 2025 era (2025-03-26 to 2025-11-25): `initialize` opens a
 * session, `Mcp-Session-Id` names it. An id that was not minted here is refused
 * before any object is reached.
 */

import { withoutCredential } from "../audit/redact.ts";
import type { JsonObject, JsonValue } from "../mcp/ijson.ts";
import {
  type InitializeParams,
  initializeParamsSchema,
  initializeResult,
} from "../mcp/initialize.ts";
import { jsonObjectSchema } from "../mcp/json-object.ts";
import { classifyMessage, INVALID_PARAMS, type RpcRequest, rpcResult } from "../mcp/jsonrpc.ts";
import { acceptsEventStream } from "../mcp/negotiate.ts";
import { sseEvent, ssePlace } from "../mcp/sse.ts";
import { isSupported2025, LATEST_2025, negotiateVersion, VERSIONS_2025 } from "../mcp/versions.ts";
import { sessionStub } from "../objects.ts";
import { logEvent } from "../ops/log.ts";
import { killSwitchSchema } from "../policy/kill-switch.ts";
import { recordRequest } from "../session/ambient.ts";
import { isMintedSessionId, newSessionId } from "../session/ids.ts";
import type { DirectoryChange, StreamWish } from "../session/stream-request.ts";
import { eventId } from "../session/streams.ts";
import { instructionsFor, serverCapabilities } from "../tools/lists.ts";
import { directoryOf } from "../upstream/directory.ts";
import { watchDirectory } from "./directory-watch.ts";
import {
  type Answer,
  answerOf,
  type McpRequest,
  openSessionStream,
  type SessionStream,
  streamOf,
  streamStopped,
  tooManyStreams,
  unsettled,
} from "./mcp-answer.ts";
import { openContext } from "./open-context.ts";
import { HttpRefusal } from "./refusal.ts";
import { requireScope } from "./scope-guard.ts";
import { noteSessionEnded, withinQuota } from "./session-quota.ts";

const SESSION_HEADER = "mcp-session-id";
const VERSION_HEADER = "mcp-protocol-version";
const OPEN_TRIES = 3;
const MAX_CALLER_TEXT = 128;

/** Answers a message or a batch of the 2025 era. */
export async function answer2025(call: McpRequest, payload: JsonValue): Promise<Answer> {
  const { headers } = call.request;
  checkVersionHeader(headers);
  return isInitialize(payload, headers) ? initialize(call, payload) : forward(call, payload);
}

/** How long a client whose stream broke waits before it comes back, in ms (2025-11-25, Sending Messages). */
const RETRY_MS = 1_000;

/**
 * Answers `GET /mcp`: the session's own stream, or, with `Last-Event-ID`, the one
 * that the event was on, from the event after it.
 */
export async function getMcp(call: McpRequest): Promise<Response> {
  const { request, env, principal } = call;
  requireScope(principal.scopes, null);
  if (!acceptsEventStream(request.headers.get("accept"))) {
    throw new HttpRefusal(406, "INVALID_ARGUMENT", "GET needs Accept: text/event-stream.");
  }
  checkVersionHeader(request.headers);
  const sessionId = requireSessionId(call);
  const after = request.headers.get("last-event-id");
  const directory = await directoryOf(env);
  const wish: StreamWish =
    after === null ? { kind: "get", directory: directory.version } : { kind: "resume", after };
  const opened = await openSessionStream(call, sessionId, wish);
  const method = after === null ? "GET" : "GET resume";
  if (opened instanceof Response && opened.status !== 204) {
    throw await streamRefusal(call, sessionId, opened, method);
  }
  call.log({ method, tool: null, error_code: null, session_id: sessionId });
  // It has all of a stream that has ended: 204 is what tells an event source not to come back (HTML, 9.2.3).
  if (opened instanceof Response) return new Response(null, { status: 204 });
  const { socket, kind } = opened;
  // The stream of a call ends with it, and has no news to wait for.
  const watch =
    kind === "get"
      ? watchDirectory(env, principal, directory, (version, changed) => {
          if (socket.readyState === WebSocket.OPEN) {
            socket.send(JSON.stringify({ directory: version, changed } satisfies DirectoryChange));
          }
        })
      : null;
  const answer = streamOf(call, opened, priming(opened), kind !== "get", {
    ...(kind === "get" ? { isStopped: () => call.isStopped(sessionId) } : {}),
    recheck: async () => watch?.look(),
    onEnd: () => watch?.stop(),
  });
  if (answer.kind === "body") throw new Error("a stream is a response");
  return answer.response;
}

/**
 * The priming event: an id to resume from, and no data (2025-11-25, Sending
 * Messages). Clients of earlier revisions read data as JSON, even where it is
 * empty; for them there is no data field, so that no event is dispatched and the
 * id is kept all the same (HTML, 9.2.6).
 */
function priming({ stream, after, version }: SessionStream): string {
  const id = eventId(stream, after);
  return version === LATEST_2025
    ? sseEvent({ id, data: "", retry: RETRY_MS })
    : ssePlace(id, RETRY_MS);
}

async function streamRefusal(
  call: McpRequest,
  sessionId: string,
  answer: Response,
  method: string,
): Promise<HttpRefusal> {
  if (answer.status === 403) {
    return streamStopped(killSwitchSchema.parse(await answer.json()));
  }
  if (answer.status === 503) return tooManyStreams();
  if (answer.status === 409) return unsettled();
  if (answer.status === 410) {
    return new HttpRefusal(
      400,
      "INVALID_ARGUMENT",
      "Last-Event-ID names no event that this session still keeps. Open a new stream without it.",
    );
  }
  const isForeign = (await answer.text()) === "foreign";
  return notFound(call, sessionId, isForeign, { method, tool: null });
}

/** Answers `DELETE /mcp`: the client ends its session. */
export async function deleteMcp(call: McpRequest): Promise<Response> {
  const sessionId = requireSessionId(call);
  const outcome = await sessionStub(call.env, sessionId).end(call.principal, call.requestId);
  call.log({ method: "DELETE", tool: null, error_code: null, session_id: sessionId });
  if (outcome === "unsettled") throw unsettled();
  if (outcome !== "ended") {
    throw await notFound(call, sessionId, outcome === "foreign", {
      method: "DELETE",
      tool: null,
    });
  }
  noteSessionEnded(call.principal, sessionId, Date.now());
  return new Response(null, { status: 204 });
}

async function forward(call: McpRequest, payload: JsonValue): Promise<Answer> {
  const sessionId = requireSessionId(call);
  const reply = await sessionStub(call.env, sessionId).handle({
    principal: call.principal,
    payload,
    requestId: call.requestId,
    switches: call.switches,
    ...(call.accessToken === null ? {} : { accessToken: call.accessToken }),
  });
  const answer = await answerOf(call, sessionId, reply, priming);
  if (answer !== null) return answer;
  throw await notFound(call, sessionId, reply.kind === "foreign", attemptOf(payload));
}

async function initialize(call: McpRequest, request: RpcRequest): Promise<Answer> {
  const params = initializeParamsSchema.safeParse(request.params ?? {});
  if (!params.success) {
    const message = `initialize: ${params.error.issues[0]?.path.join(".")}: ${params.error.issues[0]?.message}`;
    throw new HttpRefusal(400, "INVALID_ARGUMENT", message, { rpcCode: INVALID_PARAMS });
  }
  const version = negotiateVersion(params.data.protocolVersion);
  const { capabilities, clientInfo } = params.data;
  const { directory, sessionId } = await withinQuota(call, async (opened) => {
    const directory = await directoryOf(call.env);
    const declared = jsonObjectSchema.parse(capabilities);
    const sessionId = await openSession(call, version, clientInfo, declared);
    opened(sessionId);
    return { directory, sessionId };
  });
  call.log({ method: "initialize", tool: null, error_code: null, session_id: sessionId });
  const result = initializeResult({
    version,
    capabilities: serverCapabilities(directory, call.principal, "2025"),
    instructions: instructionsFor(directory, call.principal),
  });
  return {
    kind: "body",
    status: 200,
    body: JSON.stringify(rpcResult(request.id, result)),
    headers: { [SESSION_HEADER]: sessionId },
  };
}

async function openSession(
  call: McpRequest,
  protocolVersion: string,
  client: InitializeParams["clientInfo"],
  capabilities: JsonObject,
): Promise<string> {
  const { env, config, principal, requestId } = call;
  for (let tries = 0; tries < OPEN_TRIES; tries++) {
    const sessionId = newSessionId(config.sessionIdKey, Date.now());
    const opened = await sessionStub(env, sessionId).open({
      sessionId,
      principal,
      era: "2025",
      protocolVersion,
      requestId,
      context: openContext(call.request, "2025", protocolVersion, client),
      capabilities,
    });
    if (opened) return sessionId;
  }
  throw new HttpRefusal(503, "OVERLOADED", "No session id was free. Try again.", {
    headers: { "retry-after": "1" },
  });
}

function requireSessionId({ request, config }: McpRequest): string {
  const sessionId = request.headers.get(SESSION_HEADER);
  if (sessionId === null) {
    throw new HttpRefusal(
      400,
      "SESSION_REQUIRED",
      "Mcp-Session-Id is missing: send initialize first, and then the id that it answered with.",
    );
  }
  if (!isMintedSessionId(config.sessionIdKey, sessionId)) throw sessionNotFound();
  return sessionId;
}

/** One answer for a session that never was, is over, or is someone else's; the last leaves a record with the caller. */
async function notFound(
  call: McpRequest,
  sessionId: string,
  foreign: boolean,
  attempt: { method: string | null; tool: string | null },
): Promise<HttpRefusal> {
  call.log({ ...attempt, error_code: "SESSION_NOT_FOUND", session_id: sessionId });
  if (foreign) {
    const recorded = await recordRequest(call.env, call.principal, {
      event: "tool_call",
      tool: attempt.tool,
      result: "error",
      error_code: "SESSION_NOT_FOUND",
      request_id: call.requestId,
      notes: "refused use of a session of another principal",
      context: {
        method: attempt.method,
        attempted_session: sessionId,
      },
    });
    // Past its limit the caller gets the same answer: another one would say that the session is there.
    if ("kind" in recorded) {
      const { requestId, principal } = call;
      logEvent("warn", "refused_use_not_recorded", {
        request_id: requestId,
        principal: principal.id,
        session_id: sessionId,
      });
    }
  }
  return sessionNotFound();
}

function sessionNotFound(): HttpRefusal {
  return new HttpRefusal(
    404,
    "SESSION_NOT_FOUND",
    "There is no such session. Send initialize to open a new one.",
  );
}

function isInitialize(payload: JsonValue, headers: Headers): payload is RpcRequest {
  if (headers.has(SESSION_HEADER)) return false;
  const classified = classifyMessage(payload);
  return classified.kind === "request" && classified.message.method === "initialize";
}

function checkVersionHeader(headers: Headers): void {
  const version = headers.get(VERSION_HEADER);
  if (version === null || isSupported2025(version)) return;
  throw new HttpRefusal(
    400,
    "INVALID_ARGUMENT",
    `MCP-Protocol-Version must be one of ${VERSIONS_2025.join(", ")}.`,
  );
}

function attemptOf(payload: JsonValue): { method: string | null; tool: string | null } {
  const classified = classifyMessage(payload);
  if (classified.kind !== "request") return { method: null, tool: null };
  const { method, params } = classified.message;
  const name = method === "tools/call" ? params?.name : null;
  return { method: callerText(method), tool: typeof name === "string" ? callerText(name) : null };
}

/** What a caller wrote, for a record and a log line: no megabyte of it, and no credential. */
function callerText(text: string): string {
  return withoutCredential(text.slice(0, MAX_CALLER_TEXT));
}
