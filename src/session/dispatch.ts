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
  INVALID_PARAMS,
  INVALID_REQUEST,
  METHOD_NOT_FOUND,
  type RequestId,
  type RpcRequest,
  rpcError,
} from "../mcp/jsonrpc.ts";
import { rpcResultBody } from "../mcp/tool-result.ts";
import { isSupported2025, supportsBatch } from "../mcp/versions.ts";
import { toolListText } from "../tools/index.ts";
import type { Call, CallLog, Reply } from "./state.ts";
import { type Answered, type CallRuntime, callTool } from "./tool-call.ts";

const MAX_BATCH = 50;
/** Characters of a batch's answers after which its other requests are not run: a reply crosses an object boundary whole. */
const MAX_BATCH_CHARS = 4 * 1024 * 1024;

/** Answers one POST: a message, or a batch where the session's revision has them. */
export async function dispatch(runtime: CallRuntime, call: Call): Promise<Reply> {
  return Array.isArray(call.payload)
    ? dispatchBatch(runtime, call, call.payload)
    : dispatchMessage(runtime, call, call.payload);
}

async function dispatchMessage(
  runtime: CallRuntime,
  call: Call,
  payload: JsonValue,
): Promise<Reply> {
  const classified = classifyMessage(payload);
  switch (classified.kind) {
    case "request": {
      const answered = await answerRequest(runtime, classified.message, call);
      return { kind: "reply", status: answered.status, body: answered.body, log: answered.log };
    }
    case "notification":
      return accepted(classified.message.method);
    case "response":
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
          ? await answerRequest(runtime, classified.message, call)
          : refuseRest(runtime, classified.message, call);
      chars += body.length;
      bodies.push(body);
    } else if (classified.kind === "invalid") {
      bodies.push(JSON.stringify(rpcError(classified.id, INVALID_REQUEST, classified.message)));
    }
  }
  const log = logOf("batch");
  return bodies.length === 0
    ? { kind: "reply", status: 202, body: null, log }
    : { kind: "reply", status: 200, body: `[${bodies.join(",")}]`, log };
}

async function answerRequest(
  runtime: CallRuntime,
  request: RpcRequest,
  call: { principal: Principal; requestId: string },
): Promise<Answered> {
  const log = logOf(request.method);
  switch (request.method) {
    case "ping":
      return { body: rpcResultBody(request.id, "{}"), log, status: 200 };
    case "tools/list": {
      if (request.params?.cursor !== undefined) {
        return failed(request.id, INVALID_PARAMS, "The list has one page and no cursor.", log);
      }
      return {
        body: rpcResultBody(request.id, toolListText(runtime.state().role, "2025")),
        log,
        status: 200,
      };
    }
    case "tools/call":
      return callTool(runtime, request, call.principal, call.requestId);
    case "initialize":
      return failed(request.id, INVALID_REQUEST, "This session is initialized already.", log);
    default:
      return failed(request.id, METHOD_NOT_FOUND, `There is no method ${request.method}.`, log);
  }
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
