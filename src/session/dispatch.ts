/**
 * @module
 * The methods of the 2025 era on a live session: which message is answered
 * how. Batches are the session's business, for only it knows the revision that
 * was negotiated.
 */
import { MAX_TOOL_UNITS } from "../audit/record.ts";
import { withoutCredential } from "../audit/redact.ts";
import type { Principal } from "../edge/principal.ts";
import type { JsonObject, JsonValue } from "../mcp/ijson.ts";
import {
  classifyMessage,
  gatewayErrorCode,
  INTERNAL_ERROR,
  INVALID_PARAMS,
  INVALID_REQUEST,
  METHOD_NOT_FOUND,
  type RequestId,
  type RpcNotification,
  type RpcRequest,
  rpcError,
} from "../mcp/jsonrpc.ts";
import { isLogLevel, LOG_LEVELS } from "../mcp/log-level.ts";
import { rpcResultBody } from "../mcp/tool-result.ts";
import { isSupported2025, supportsBatch } from "../mcp/versions.ts";
import type { ErrorCode } from "../policy/errors.ts";
import { stoppedRefusal } from "../policy/kill-switch.ts";
import { findTool } from "../tools/index.ts";
import { isList, type ListMethod, listText } from "../tools/lists.ts";
import { directoryOf } from "../upstream/directory.ts";
import { type Channel, callKey, silentChannel } from "./client-side.ts";
import { answerOutward, onChannel, RESOURCE_NOT_FOUND } from "./outward.ts";
import { errorCodeOf, messageOf } from "./relay-words.ts";
import { attemptedName, isRelayed, type RelayedMethod } from "./routes.ts";
import type { Call, CallLog, Reply } from "./state.ts";
import { type Answered, type CallRuntime, callTool } from "./tool-call.ts";

const MAX_BATCH = 50;
/** Characters of a batch's answers after which its other requests are not run: a reply crosses an object boundary whole. */
const MAX_BATCH_CHARS = 4 * 1024 * 1024;

/** Answers one POST: a message, or a batch where the session's revision has them. */
export async function dispatch(
  runtime: CallRuntime,
  call: Call,
  onStream: OnStream,
): Promise<Reply> {
  return Array.isArray(call.payload)
    ? dispatchBatch(runtime, call, call.payload)
    : dispatchMessage(runtime, call, call.payload, onStream);
}

/** Told once when a response becomes a stream, before the answer is there. */
export type OnStream = (stream: number, log: CallLog) => void;

async function dispatchMessage(
  runtime: CallRuntime,
  call: Call,
  payload: JsonValue,
  onStream: OnStream,
): Promise<Reply> {
  const classified = classifyMessage(payload);
  switch (classified.kind) {
    case "request": {
      const answered = await answerRequest(runtime, classified.message, call, onStream);
      return { kind: "reply", status: answered.status, body: answered.body, log: answered.log };
    }
    case "notification":
      notified(runtime, classified.message);
      return accepted(classified.message.method);
    case "response":
      runtime.client.answer(classified.message);
      return accepted(null);
    case "invalid":
      return rejected(call, classified.id, classified.message);
  }
}

async function dispatchBatch(
  runtime: CallRuntime,
  call: Call,
  batch: readonly JsonValue[],
): Promise<Reply> {
  const version = runtime.state().protocol_version ?? "";
  if (!isSupported2025(version) || !supportsBatch(version)) {
    return rejected(call, null, `Batches were removed from MCP; this session speaks ${version}.`);
  }
  if (batch.length === 0 || batch.length > MAX_BATCH) {
    return rejected(
      call,
      null,
      `A batch holds from 1 to ${MAX_BATCH} messages; this one ${batch.length}.`,
    );
  }
  const messages = batch.map(classifyMessage);
  if (messages.some((m) => m.kind === "request" && m.message.method === "initialize")) {
    return rejected(call, null, "initialize must not be part of a batch.");
  }
  const bodies: string[] = [];
  let chars = 0;
  // One after the other: the chain then has the order of the batch.
  for (const classified of messages) {
    if (classified.kind === "request") {
      const { body } =
        chars < MAX_BATCH_CHARS
          ? await answerRequest(runtime, classified.message, call, null)
          : refuseRest(runtime, classified.message, call);
      chars += body.length;
      bodies.push(body);
    } else if (classified.kind === "notification") {
      notified(runtime, classified.message);
    } else if (classified.kind === "response") {
      runtime.client.answer(classified.message);
    } else if (classified.kind === "invalid") {
      bodies.push(JSON.stringify(rpcError(classified.id, INVALID_REQUEST, classified.message)));
    }
  }
  const log = logOf("batch");
  return bodies.length === 0
    ? { kind: "reply", status: 202, body: null, log }
    : { kind: "reply", status: 200, body: `[${bodies.join(",")}]`, log };
}

/** Answers one request; those of a batch have no stream, and their client cannot be asked meanwhile. */
async function answerRequest(
  runtime: CallRuntime,
  request: RpcRequest,
  call: { principal: Principal; requestId: string },
  onStream: OnStream | null,
): Promise<Answered> {
  const { method } = request;
  const log = logOf(method);
  if (method === "tools/call" && isBuiltIn(request)) {
    return callTool(runtime, request, call.principal, call.requestId);
  }
  if (isRelayed(method, "2025")) return outward(runtime, request, method, call, onStream);
  if (isList(method)) return list(runtime, request, method, call.principal);
  switch (method) {
    case "ping":
      return { body: rpcResultBody(request.id, "{}"), log, status: 200 };
    case "logging/setLevel":
      return setLevel(runtime, request, call.requestId);
    case "resources/subscribe":
    case "resources/unsubscribe":
      return changeSubscription(runtime, request, method, call);
    case "initialize":
      return failed(request.id, INVALID_REQUEST, "This session is initialized already.", log);
    default:
      return failed(request.id, METHOD_NOT_FOUND, `There is no method ${method}.`, log);
  }
}

function isBuiltIn(request: RpcRequest): boolean {
  const name = request.params?.name;
  return typeof name !== "string" || findTool(name) !== null;
}

async function outward(
  runtime: CallRuntime,
  request: RpcRequest,
  method: RelayedMethod,
  { principal, requestId }: { principal: Principal; requestId: string },
  onStream: OnStream | null,
): Promise<Answered> {
  const { client_capabilities: capabilities, log_level: logLevel } = runtime.state();
  const answer = (channel: Channel): Promise<Answered> =>
    answerOutward(runtime, request, method, principal, requestId, {
      era: "2025",
      capabilities,
      logLevel,
      channel,
    });
  if (onStream === null) return answer(silentChannel(new AbortController().signal));
  const key = callKey(request.id);
  if (runtime.client.isUnderWay(key)) {
    const message = "A request with this id is under way; ids must not be used twice in a session.";
    return failed(request.id, INVALID_REQUEST, message, logOf(method));
  }
  const log = {
    method,
    tool: method === "tools/call" ? attemptedName(request.params ?? {}, MAX_TOOL_UNITS) : null,
    error_code: null,
  };
  const opened = (stream: number): void => onStream(stream, log);
  return onChannel(runtime, { key, kind: "post", request, requestId }, opened, answer);
}

async function list(
  runtime: CallRuntime,
  request: RpcRequest,
  method: ListMethod,
  principal: Principal,
): Promise<Answered> {
  const log = logOf(method);
  const directory = await directoryOf(runtime.env);
  const text = listText(directory, principal, method, "2025", request.params?.cursor);
  return text.ok
    ? { body: rpcResultBody(request.id, text.value), log, status: 200 }
    : failed(request.id, INVALID_PARAMS, text.refusal.message, log);
}

/** Upstream sessions are told with the next request that they get. */
function setLevel(runtime: CallRuntime, request: RpcRequest, requestId: string): Answered {
  const log = logOf(request.method);
  const level = request.params?.level;
  if (!isLogLevel(level)) {
    const message = `level: must be one of ${LOG_LEVELS.join(", ")}`;
    return failed(request.id, INVALID_PARAMS, message, log);
  }
  runtime.ledger.appendWith(
    { event: "logging_set_level", result: "ok", request_id: requestId, args: { level } },
    () => runtime.remember({ log_level: level }),
  );
  return { body: rpcResultBody(request.id, "{}"), log, status: 200 };
}

async function changeSubscription(
  runtime: CallRuntime,
  request: RpcRequest,
  method: "resources/subscribe" | "resources/unsubscribe",
  { principal, requestId }: { principal: Principal; requestId: string },
): Promise<Answered> {
  const log = logOf(method);
  const uri = request.params?.uri;
  if (typeof uri !== "string") {
    return failed(
      request.id,
      INVALID_PARAMS,
      "uri: must be the URI of a resource, as a string",
      log,
    );
  }
  const directory = await directoryOf(runtime.env);
  const entry = directory.ownerOf(principal, uri);
  const event = method === "resources/subscribe" ? "resource_subscribe" : "resource_unsubscribe";
  const base = { event, request_id: requestId, tool: null };
  const refuse = (code: ErrorCode, rpcCode: number, message: string): Answered => {
    const receipt = runtime.ledger.append({
      ...base,
      result: "error",
      error_code: code,
      args: { uri },
    });
    const data = { code, request_id: requestId, uri, receipt: { ...receipt } };
    const body = JSON.stringify(rpcError(request.id, rpcCode, message, data));
    return { body, log: { ...log, error_code: code }, status: 200 };
  };
  if (entry === null) return refuse("NOT_FOUND", RESOURCE_NOT_FOUND, "There is no such resource");
  const stopping = runtime.stoppedBy({ tool: null, upstream: entry.config.name });
  if (stopping !== null) {
    const { code, message } = stoppedRefusal(stopping);
    return refuse(code, INTERNAL_ERROR, `[${code}] ${message}`);
  }
  const isNew = method === "resources/subscribe";
  if (isNew && runtime.upstreams.full) {
    const message = "This session is subscribed to as many resources as it may be.";
    return refuse("QUOTA_EXCEEDED", gatewayErrorCode(429), message);
  }
  const { workspace_root, plan_hash } = runtime.state();
  const upstream = entry.config.name;
  const intent = runtime.ledger.intent(
    { ...base, args: { uri }, context: { upstream } },
    { ...base, result_event: event, workspace_root, plan_hash, upstream },
  );
  const outcome = isNew
    ? await runtime.upstreams.subscribe(entry, uri, runtime.accessToken)
    : await runtime.upstreams.unsubscribe(entry, uri, runtime.accessToken);
  const code =
    outcome.kind === "result"
      ? null
      : outcome.kind === "failed"
        ? errorCodeOf(outcome.failure)
        : "UPSTREAM_ERROR";
  const receipt = runtime.ledger.result(intent.seq, {
    ...base,
    result: code === null ? "ok" : "error",
    error_code: code,
    context: { upstream },
  });
  if (outcome.kind === "result") {
    return { body: rpcResultBody(request.id, "{}"), log, status: 200 };
  }
  const error =
    outcome.kind === "error"
      ? rpcError(request.id, outcome.error.code, outcome.error.message, outcome.error.data)
      : rpcError(
          request.id,
          INTERNAL_ERROR,
          `[${code}] ${messageOf(outcome.failure, upstream, requestId)}`,
          { code, request_id: requestId, receipt: { ...receipt } },
        );
  return { body: JSON.stringify(error), log: { ...log, error_code: code }, status: 200 };
}

/** What a client tells of its own accord. */
function notified(runtime: CallRuntime, { method, params }: RpcNotification): void {
  if (method === "notifications/roots/list_changed") runtime.upstreams.rootsChanged();
  if (method !== "notifications/cancelled") return;
  const id = params?.requestId;
  if (typeof id !== "string" && typeof id !== "number") return;
  runtime.client.cancel(callKey(id), "cancelled by the client");
}

/** A request of a batch whose answers have grown too large: refused before it runs, and recorded. */
function refuseRest(
  runtime: CallRuntime,
  request: RpcRequest,
  call: { requestId: string },
): Answered {
  const message = "The answers of this batch have grown too large. Send this request by itself.";
  const code = gatewayErrorCode(413);
  const data: JsonObject = { code: "PAYLOAD_TOO_LARGE", request_id: call.requestId };
  if (request.method === "tools/call") {
    const name = request.params?.name;
    const receipt = runtime.ledger.append({
      event: "tool_call",
      tool: typeof name === "string" ? withoutCredential(name.slice(0, MAX_TOOL_UNITS)) : null,
      result: "error",
      error_code: "PAYLOAD_TOO_LARGE",
      request_id: call.requestId,
    });
    data.receipt = { ...receipt };
  }
  const log = logOf(request.method);
  return { body: JSON.stringify(rpcError(request.id, code, message, data)), log, status: 200 };
}

function failed(id: RequestId, code: number, message: string, log: CallLog): Answered {
  return { body: JSON.stringify(rpcError(id, code, message)), log, status: 200 };
}

function accepted(method: string | null): Reply {
  return { kind: "reply", status: 202, body: null, log: logOf(method) };
}

function rejected(call: Call, id: RequestId | null, message: string): Reply {
  const data = { code: "INVALID_ARGUMENT", request_id: call.requestId };
  const body = JSON.stringify(rpcError(id, INVALID_REQUEST, message, data));
  return { kind: "reply", status: 400, body, log: logOf(null) };
}

function logOf(method: string | null): CallLog {
  return {
    method: method === null ? null : withoutCredential(method),
    tool: null,
    error_code: null,
  };
}
