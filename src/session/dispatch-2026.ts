/**
 * @module
 * The methods of the 2026 era that a session answers: calls of built-in tools,
 * and what upstreams answer.
 */
import { MAX_TOOL_UNITS } from "../audit/record.ts";
import { findTool } from "../tools/index.ts";
import { relayable } from "./capabilities.ts";
import type { OnStream } from "./dispatch.ts";
import { answerOutward, onChannel } from "./outward.ts";
import { attemptedName, isRelayed } from "./routes.ts";
import type { StatelessCall } from "./state.ts";
import { type Answered, type CallRuntime, callTool } from "./tool-call.ts";

/** Answers one request, whose method must be one that is relayed or `tools/call`. */
export async function dispatch2026(
  runtime: CallRuntime,
  call: StatelessCall,
  onStream: OnStream,
): Promise<Answered> {
  const { request, principal, requestId } = call;
  const { method, params = {} } = request;
  const { name } = params;
  const isBuiltIn =
    method === "tools/call" && (typeof name !== "string" || findTool(name) !== null);
  if (isBuiltIn || !isRelayed(method, "2026"))
    return callTool(runtime, request, principal, requestId);
  const log = {
    method,
    tool: method === "tools/call" ? attemptedName(params, MAX_TOOL_UNITS) : null,
    error_code: null,
  };
  const capabilities = relayable(call.capabilities, "2026");
  // The gateway's own id of the request: the client's need not be unique among its connections.
  return onChannel(
    runtime,
    { key: requestId, kind: "call", request, requestId },
    (stream) => onStream(stream, log),
    (channel) =>
      answerOutward(runtime, request, method, principal, requestId, {
        era: "2026",
        capabilities,
        logLevel: call.logLevel,
        channel,
      }),
  );
}
