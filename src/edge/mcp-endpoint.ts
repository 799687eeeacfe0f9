/**
 * @module
 * `/mcp`: checks what needs no session, and hands the rest to the session's
 * object. An id that was not minted here is refused before any object is
 * reached.
 */
import type { Config } from "../config.ts";
import type { JsonObject, JsonValue } from "../mcp/ijson.ts";
import { initializeParamsSchema, initializeResult } from "../mcp/initialize.ts";
import {
  classifyMessage,
  INVALID_PARAMS,
  type RequestId,
  type RpcRequest,
  rpcError,
  rpcResult,
  UNSUPPORTED_VERSION,
} from "../mcp/jsonrpc.ts";
import { acceptsEventStream, acceptsMcp } from "../mcp/negotiate.ts";
import { SSE_HEADERS, sseEvent } from "../mcp/sse.ts";
import { eraOf, isSupported2025, negotiateVersion, VERSIONS_2025 } from "../mcp/versions.ts";
import { sessionStub } from "../objects.ts";
import { recordAmbient } from "../session/ambient.ts";
import { isMintedSessionId, mintSessionId } from "../session/ids.ts";
import type { CallLog } from "../session/state.ts";
import { VERSION } from "../version.ts";
import { readJson } from "./body.ts";
import type { Principal } from "./principal.ts";
import { HttpRefusal } from "./refusal.ts";

const SESSION_HEADER = "mcp-session-id";
const VERSION_HEADER = "mcp-protocol-version";
/** Longest client name and version kept in a record: both come from outside. */
const MAX_CLIENT_TEXT = 128;
const MINT_TRIES = 3;
const OVERLOAD_RETRY_SECONDS = 30;
const UNSETTLED_RETRY_SECONDS = 2;

const INSTRUCTIONS =
  "Call begin_session with a workspace_root first. Reading is free; every change needs a plan that an operator approved: pass its plan_hash. Each result carries a receipt.";

export type McpRequest = {
  readonly request: Request;
  readonly env: Env;
  readonly config: Config;
  readonly principal: Principal;
  readonly requestId: string;
  /** Fills in what the request's log line says of the call. */
  readonly log: (call: CallLog & { session_id?: string }) => void;
};

/** Answers `POST /mcp`. Throws `HttpRefusal`. */
export async function postMcp(call: McpRequest): Promise<Response> {
  const { request, config } = call;
  const accept = acceptsMcp(request.headers.get("accept"));
  if (!accept.ok) throw new HttpRefusal(406, "INVALID_ARGUMENT", accept.message);
  const payload = await readJson(request, config.maxBodyBytes);
  const answer = await answerPayload(call, payload).catch((error: unknown) => {
    if (error instanceof HttpRefusal) error.rpcId = idOf(payload);
    throw error;
  });
  if (answer.body === null) return new Response(null, { status: answer.status });
  return accept.prefer === "sse" && answer.status === 200
    ? new Response(sseEvent({ event: "message", data: answer.body }), {
        headers: { ...SSE_HEADERS, ...answer.headers },
      })
    : new Response(answer.body, {
        status: answer.status,
        headers: { "content-type": "application/json", ...answer.headers },
      });
}

/** Answers `GET /mcp`: this version opens no server-to-client stream, which the protocol allows. */
export function getMcp({ request }: McpRequest): Response {
  const accept = acceptsEventStream(request.headers.get("accept"));
  if (!accept) {
    throw new HttpRefusal(406, "INVALID_ARGUMENT", "GET needs Accept: text/event-stream.");
  }
  throw methodNotAllowed();
}

/** Answers `DELETE /mcp`: the client ends its session. */
export async function deleteMcp(call: McpRequest): Promise<Response> {
  const sessionId = requireSessionId(call);
  const outcome = await sessionStub(call.env, sessionId).end(call.principal, call.requestId);
  call.log({ method: "DELETE", tool: null, error_code: null, session_id: sessionId });
  if (outcome !== "ended") {
    throw await notFound(call, sessionId, outcome, { method: "DELETE", tool: null });
  }
  return new Response(null, { status: 204 });
}

export function methodNotAllowed(): HttpRefusal {
  return new HttpRefusal(405, "INVALID_ARGUMENT", "Use POST, or DELETE to end a session.", {
    headers: { allow: "POST, DELETE" },
  });
}

type Answer = {
  readonly status: 200 | 202 | 400;
  readonly body: string | null;
  readonly headers: Readonly<Record<string, string>>;
};

async function answerPayload(call: McpRequest, payload: JsonValue): Promise<Answer> {
  const { headers } = call.request;
  refuse2026(payload);
  checkVersionHeader(headers);
  return isInitialize(payload, headers) ? initialize(call, payload) : forward(call, payload);
}

async function forward(call: McpRequest, payload: JsonValue): Promise<Answer> {
  const sessionId = requireSessionId(call);
  const reply = await sessionStub(call.env, sessionId).handle({
    principal: call.principal,
    payload,
    requestId: call.requestId,
  });
  switch (reply.kind) {
    case "reply":
      call.log({ ...reply.log, session_id: sessionId });
      return { status: reply.status, body: reply.body, headers: {} };
    case "unsettled":
      throw new HttpRefusal(
        503,
        "OVERLOADED",
        "A call of this session lost its answer, and the workspace cannot be asked about it yet.",
        { headers: { "retry-after": String(UNSETTLED_RETRY_SECONDS) } },
      );
    case "overloaded":
      throw new HttpRefusal(
        503,
        "OVERLOADED",
        "This session has too many records that are not archived yet. Try again later.",
        { headers: { "retry-after": String(OVERLOAD_RETRY_SECONDS) } },
      );
    case "absent":
    case "foreign":
      throw await notFound(call, sessionId, reply.kind, attemptOf(payload));
  }
}

async function initialize(call: McpRequest, request: RpcRequest): Promise<Answer> {
  const params = initializeParamsSchema.safeParse(request.params ?? {});
  if (!params.success) {
    const message = `initialize: ${params.error.issues[0]?.path.join(".")}: ${params.error.issues[0]?.message}`;
    call.log({ method: "initialize", tool: null, error_code: "INVALID_ARGUMENT" });
    const body = JSON.stringify(rpcError(request.id, INVALID_PARAMS, message));
    return { status: 400, body, headers: {} };
  }
  const version = negotiateVersion(params.data.protocolVersion);
  const { clientInfo } = params.data;
  const sessionId = await openSession(call, version, {
    name: clientInfo.name.slice(0, MAX_CLIENT_TEXT),
    version: clientInfo.version.slice(0, MAX_CLIENT_TEXT),
  });
  call.log({ method: "initialize", tool: null, error_code: null, session_id: sessionId });
  const result = initializeResult({ version, serverVersion: VERSION, instructions: INSTRUCTIONS });
  return {
    status: 200,
    body: JSON.stringify(rpcResult(request.id, result)),
    headers: { [SESSION_HEADER]: sessionId },
  };
}

async function openSession(
  call: McpRequest,
  protocolVersion: string,
  client: JsonObject,
): Promise<string> {
  const { env, config, principal, requestId, request } = call;
  const colo = request.cf?.colo;
  for (let tries = 0; tries < MINT_TRIES; tries++) {
    const random = crypto.getRandomValues(new Uint8Array(8));
    const sessionId = mintSessionId(config.sessionIdKey, Date.now(), random);
    const opened = await sessionStub(env, sessionId).open({
      sessionId,
      principal,
      era: "2025",
      protocolVersion,
      requestId,
      context: {
        era: "2025",
        protocol_version: protocolVersion,
        client,
        gateway: { version: VERSION },
        colo: typeof colo === "string" ? colo : null,
      },
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
  why: "absent" | "foreign",
  attempt: { method: string | null; tool: string | null },
): Promise<HttpRefusal> {
  call.log({ ...attempt, error_code: "SESSION_NOT_FOUND", session_id: sessionId });
  if (why === "foreign") {
    await recordAmbient(call.env, call.principal, {
      event: "tool_call",
      tool: attempt.tool,
      result: "error",
      error_code: "SESSION_NOT_FOUND",
      request_id: call.requestId,
      notes: "refused use of a session of another principal",
      context: { method: attempt.method, attempted_session: sessionId },
    });
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

/** Requests of the 2026 era are refused with what this version supports, as that revision asks. */
function refuse2026(payload: JsonValue): void {
  const era = eraOf(payload);
  if (era.era === "2025") return;
  throw new HttpRefusal(
    400,
    "INVALID_ARGUMENT",
    `Protocol version ${era.version} is not supported yet.`,
    {
      rpcCode: UNSUPPORTED_VERSION,
      data: { supported: [...VERSIONS_2025], requested: era.version },
    },
  );
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

function idOf(payload: JsonValue): RequestId | null {
  const classified = Array.isArray(payload) ? null : classifyMessage(payload);
  if (classified === null) return null;
  if (classified.kind === "request") return classified.message.id;
  return classified.kind === "invalid" ? classified.id : null;
}

function attemptOf(payload: JsonValue): { method: string | null; tool: string | null } {
  const classified = classifyMessage(payload);
  if (classified.kind !== "request") return { method: null, tool: null };
  const { method, params } = classified.message;
  const name = method === "tools/call" ? params?.name : null;
  return { method, tool: typeof name === "string" ? name : null };
}
