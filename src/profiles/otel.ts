/**
 * @module
 * OpenTelemetry spans in OTLP/JSON, by the semantic conventions for MCP
 * (open-telemetry/semantic-conventions-genai, in development). A session is a
 * trace. An intent and its result are one span; every other record is one.
 * One line holds one request body of an OTLP collector.
 */
import { canonicalJson } from "../audit/canonical.ts";
import type { JsonObject, JsonValue } from "../audit/json.ts";
import type { AuditRecord } from "../audit/record.ts";
import { VERSION } from "../version.ts";
import type { Profile, VerifiedRecord } from "./profile.ts";

const KIND = { internal: 1, server: 2, client: 3 } as const;
const STATUS_ERROR = 2;
/** Spans of one request: collectors refuse bodies over some megabytes. */
const MAX_SPANS = 512;

/** MCP's method behind an event; what is none becomes an internal span. */
const METHODS: Readonly<Record<string, string>> = {
  session_open: "initialize",
  session_bind: "tools/call",
  tool_call: "tools/call",
  tool_intent: "tools/call",
  tool_result: "tools/call",
  resource_read: "resources/read",
  prompt_get: "prompts/get",
  completion: "completion/complete",
};

export const otel: Profile = (records) => {
  const results = new Map<number, VerifiedRecord>();
  for (const verified of records) {
    const { intent_seq } = verified.record;
    if (intent_seq !== null) results.set(intent_seq, verified);
  }
  const spans = records
    .filter(({ record }) => record.intent_seq === null)
    .map((start) => spanOf(start, results.get(start.record.seq) ?? start));
  const lines: string[] = [];
  for (let from = 0; from < spans.length; from += MAX_SPANS) {
    lines.push(requestOf(spans.slice(from, from + MAX_SPANS)));
  }
  return lines;
};

function requestOf(spans: readonly JsonObject[]): string {
  const scope = { name: "atlas-gate", version: VERSION };
  const resource = { attributes: attributes({ "service.name": "atlas-gate" }) };
  return canonicalJson({ resourceSpans: [{ resource, scopeSpans: [{ scope, spans }] }] });
}

function spanOf(start: VerifiedRecord, end: VerifiedRecord): JsonObject {
  const { record } = start;
  const method = METHODS[record.event];
  const tool = method === "tools/call" ? record.tool : null;
  const name = method === undefined ? record.event : [method, tool].filter(Boolean).join(" ");
  const isError = end.record.result === "error";
  return {
    // Both are fixed by the record: the same export for the same records.
    traceId: record.session_id.replaceAll("-", ""),
    spanId: start.hash_chain.slice(0, 16),
    name,
    kind: kindOf(record, method),
    startTimeUnixNano: nanoseconds(record),
    endTimeUnixNano: nanoseconds(end.record),
    attributes: attributes({
      "mcp.method.name": method ?? null,
      "mcp.session.id": record.session_id,
      "gen_ai.operation.name": tool === null ? null : "execute_tool",
      "gen_ai.tool.name": tool,
      "gen_ai.prompt.name": method === "prompts/get" ? record.tool : null,
      "network.transport": method === undefined ? null : "tcp",
      "error.type": isError ? (tool === null ? end.record.error_code : "tool_error") : null,
      "atlas_gate.tenant": record.tenant,
      "atlas_gate.principal": record.principal,
      "atlas_gate.role": record.role,
      "atlas_gate.event": record.event,
      "atlas_gate.seq": record.seq,
      "atlas_gate.hash_chain": start.hash_chain,
      "atlas_gate.result": end.record.result,
      "atlas_gate.result.seq": end === start ? null : end.record.seq,
      "atlas_gate.result.hash_chain": end === start ? null : end.hash_chain,
      "atlas_gate.error_code": end.record.error_code,
      "atlas_gate.plan_hash": record.plan_hash,
      "atlas_gate.request_id": record.request_id,
    }),
    status: isError ? { code: STATUS_ERROR, message: end.record.error_code ?? "" } : {},
  };
}

function kindOf({ event }: AuditRecord, method: string | undefined): number {
  if (event === "client_request") return KIND.client;
  return method === undefined ? KIND.internal : KIND.server;
}

/** 64-bit integers are strings in OTLP/JSON. */
function nanoseconds({ timestamp }: AuditRecord): string {
  return `${Date.parse(timestamp)}000000`;
}

function attributes(values: Readonly<Record<string, string | number | null>>): JsonValue[] {
  return Object.entries(values).flatMap(([key, value]): JsonValue[] => {
    if (value === null) return [];
    return [
      {
        key,
        value: typeof value === "number" ? { intValue: String(value) } : { stringValue: value },
      },
    ];
  });
}
