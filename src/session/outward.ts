/**
 * @module
 * A request that is not the gateway's own to answer: found its upstream, given
 * a channel to its client, and relayed. The response is JSON, unless the
 * upstream takes its time or has something to say meanwhile: then it becomes a
 * stream.
 */
import { MAX_TOOL_UNITS } from "../audit/record.ts";
import type { Principal } from "../edge/principal.ts";
import type { JsonObject } from "../mcp/ijson.ts";
import {
  gatewayErrorCode,
  INTERNAL_ERROR,
  INVALID_PARAMS,
  MISSING_CAPABILITY,
  type RpcRequest,
  rpcError,
} from "../mcp/jsonrpc.ts";
import { logEvent } from "../ops/log.ts";
import type { ErrorCode } from "../policy/errors.ts";
import { type Directory, directoryOf } from "../upstream/directory.ts";
import { declaresTasks, TASKS_EXTENSION } from "./capabilities.ts";
import type { Channel } from "./client-side.ts";
import type { RelayClient } from "./relay/job.ts";
import { relay } from "./relay/relay.ts";
import { attemptedName, RELAYED, type RelayedMethod, routeOf } from "./routes.ts";
import type { StreamKind } from "./streams.ts";
import type { Answered, CallRuntime } from "./tool-call.ts";

/** How long a response may stay JSON, in ms: then its stream opens, so that the client sees that it is alive. */
const STREAM_AFTER_MS = 250;

/** 2025-11-25 `RESOURCE_NOT_FOUND`. */
export const RESOURCE_NOT_FOUND = -32002;

/**
 * Runs a request whose response may become a stream; `onStream` is told once,
 * when it does. The answer then goes to the stream.
 */
export async function onChannel(
  runtime: CallRuntime,
  call: {
    readonly key: string;
    readonly kind: Exclude<StreamKind, "get">;
    readonly request: RpcRequest;
    readonly requestId: string;
  },
  onStream: (stream: number) => void,
  work: (channel: Channel) => Promise<Answered>,
): Promise<Answered> {
  const { id } = call.request;
  const answers = { id, request_id: call.requestId };
  const channel = runtime.client.begin(call.key, call.kind, answers, onStream);
  const timer = setTimeout(() => channel.open(), STREAM_AFTER_MS);
  try {
    const answered = await work(channel);
    // A cancelled request gets no response (2025-11-25, Cancellation), and only a stream can end
    // without one. In the other era the client has left, and there is nothing to answer on.
    const mustStream = channel.isUnwanted() && call.kind === "post";
    const stream = mustStream ? channel.open() : channel.stream();
    if (stream !== null) {
      if (channel.isUnwanted()) runtime.streams.end(stream);
      else runtime.streams.append(stream, answered.body, true);
    }
    return answered;
  } catch (error) {
    const stream = channel.stream();
    if (stream !== null) {
      runtime.streams.append(stream, internalError(call.request, call.requestId), true);
    }
    throw error;
  } finally {
    clearTimeout(timer);
    channel.close();
  }
}

/** Relays one request, or refuses it; either way it ends in a record. */
export async function answerOutward(
  runtime: CallRuntime,
  request: RpcRequest,
  method: RelayedMethod,
  caller: Principal,
  requestId: string,
  client: RelayClient,
): Promise<Answered> {
  if (method.startsWith("tasks/") && !declaresTasks(client.capabilities)) {
    return refused(runtime, request, method, requestId, {
      rpcCode: MISSING_CAPABILITY,
      code: "INVALID_ARGUMENT",
      message: `${method} needs the extension ${TASKS_EXTENSION} among the client's capabilities`,
      status: 400,
      data: { requiredCapabilities: { extensions: { [TASKS_EXTENSION]: {} } } },
    });
  }
  const directory = await directoryNow(runtime, requestId);
  if (directory === null) {
    return refused(runtime, request, method, requestId, {
      rpcCode: gatewayErrorCode(503),
      code: "OVERLOADED",
      message: "The upstreams cannot be looked up now. Try again.",
      status: 200,
    });
  }
  const { secretsKey } = runtime.upstreams;
  const routing = routeOf(directory, caller, request, method, secretsKey);
  if (routing.ok) {
    return relay({
      runtime,
      host: runtime.upstreams,
      client,
      request,
      requestId,
      route: routing.route,
      routeNow: async () => {
        const now = await directoryNow(runtime, requestId);
        const again = now === null ? null : routeOf(now, caller, request, method, secretsKey);
        return again?.ok === true ? again.route : null;
      },
    });
  }
  const isResource = method === "resources/read" && routing.kind === "missing";
  const uri = request.params?.uri;
  return refused(runtime, request, method, requestId, {
    rpcCode: isResource && client.era === "2025" ? RESOURCE_NOT_FOUND : INVALID_PARAMS,
    code:
      routing.kind === "invalid"
        ? "INVALID_ARGUMENT"
        : method === "tools/call"
          ? "TOOL_NOT_FOUND"
          : "NOT_FOUND",
    message: routing.message,
    status: client.era === "2026" ? 400 : 200,
    ...(isResource && typeof uri === "string" ? { data: { uri } } : {}),
  });
}

async function directoryNow(runtime: CallRuntime, requestId: string): Promise<Directory | null> {
  try {
    return await directoryOf(runtime.env);
  } catch (error) {
    logEvent("error", "directory_unreadable", { request_id: requestId, error: String(error) });
    return null;
  }
}

/** A request that goes nowhere: a protocol error, recorded. */
function refused(
  runtime: CallRuntime,
  request: RpcRequest,
  method: RelayedMethod,
  requestId: string,
  refusal: {
    readonly rpcCode: number;
    readonly code: ErrorCode;
    readonly message: string;
    readonly status: 200 | 400;
    readonly data?: JsonObject;
  },
): Answered {
  const params = request.params ?? {};
  const tool = attemptedName(params, MAX_TOOL_UNITS);
  const args = method === "tools/call" ? params.arguments : { uri: params.uri ?? null };
  const receipt = runtime.ledger.append({
    event: RELAYED[method],
    tool,
    result: "error",
    error_code: refusal.code,
    plan_hash: runtime.state().plan_hash,
    args: typeof args === "object" && args !== null && !Array.isArray(args) ? args : null,
    request_id: requestId,
  });
  const error = rpcError(request.id, refusal.rpcCode, refusal.message, {
    code: refusal.code,
    request_id: requestId,
    ...refusal.data,
    receipt: { ...receipt },
  });
  return {
    body: JSON.stringify(error),
    log: { method, tool, error_code: refusal.code },
    status: refusal.status,
  };
}

/** What is sent on a stream whose call failed in the gateway itself. */
function internalError(request: RpcRequest, requestId: string): string {
  return JSON.stringify(
    rpcError(request.id, INTERNAL_ERROR, "The gateway failed to answer this request.", {
      code: "INTERNAL_ERROR",
      request_id: requestId,
    }),
  );
}
