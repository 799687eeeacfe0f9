/**
 * @module
 * `/mcp`: what both eras have in common. The body says which era a request is
 * of; what each does with it is in a file of its own.
 */
import type { JsonValue } from "../mcp/ijson.ts";
import { classifyMessage, type RequestId } from "../mcp/jsonrpc.ts";
import { acceptsMcp } from "../mcp/negotiate.ts";
import { SSE_HEADERS, sseEvent } from "../mcp/sse.ts";
import { eraOf } from "../mcp/versions.ts";
import { readJson } from "./body.ts";
import { answer2025 } from "./mcp-2025.ts";
import { answer2026 } from "./mcp-2026.ts";
import type { Answer, McpRequest } from "./mcp-answer.ts";
import { HttpRefusal } from "./refusal.ts";
import { requireScopes } from "./scope-guard.ts";

/** Answers `POST /mcp`. Throws `HttpRefusal`. */
export async function postMcp(call: McpRequest): Promise<Response> {
  const { request, config } = call;
  const accept = acceptsMcp(request.headers.get("accept"));
  if (!accept.ok) throw new HttpRefusal(406, "INVALID_ARGUMENT", accept.message);
  const payload = await readJson(request, config.maxBodyBytes);
  const answer = await allowedAnswer(call, payload).catch((error: unknown) => {
    if (error instanceof HttpRefusal) error.rpcId = idOf(payload);
    throw error;
  });
  if (answer.kind === "response") return answer.response;
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

/** Who is narrowed to scopes is held to them first; all others go straight on. */
function allowedAnswer(call: McpRequest, payload: JsonValue): Promise<Answer> {
  return call.principal.scopes === undefined
    ? answerPayload(call, payload)
    : requireScopes(call, payload).then(() => answerPayload(call, payload));
}

function answerPayload(call: McpRequest, payload: JsonValue): Promise<Answer> {
  const era = eraOf(payload, call.request.headers.get("mcp-protocol-version"));
  call.noteEra(era.era);
  return era.era === "2026" ? answer2026(call, payload, era.version) : answer2025(call, payload);
}

function idOf(payload: JsonValue): RequestId | null {
  const classified = Array.isArray(payload) ? null : classifyMessage(payload);
  if (classified === null) return null;
  if (classified.kind === "request") return classified.message.id;
  return classified.kind === "invalid" ? classified.id : null;
}
