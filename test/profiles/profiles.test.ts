import { describe, expect, it } from "vitest";
import { type AuditRecord, parseExportLine } from "../../src/audit/record.ts";
import { AAT_REVISION, agentAuditTrail } from "../../src/profiles/agent-audit-trail.ts";
import { ocsf } from "../../src/profiles/ocsf.ts";
import { otel } from "../../src/profiles/otel.ts";
import type { VerifiedRecord } from "../../src/profiles/profile.ts";
import { canonical, type Members, sha256 } from "../audit/reference.ts";
import { sessionLines } from "../verify/gateway.ts";

const ID = "0199a3c2-7b1f-8abc-9def-0123456789ab";
const PLAN = "a".repeat(64);

const RECORDS = verified([
  { context: { client: { name: "an agent", version: "1.2.3" } } },
  { tool: "read_file" },
  { tool: "write_file", event: "tool_intent", result: "pending", plan_hash: PLAN },
  {
    tool: "write_file",
    event: "tool_result",
    intent_seq: 3,
    timestamp: "2026-11-22T10:00:00.250Z",
  },
  { tool: "write_file", result: "error", error_code: "PLAN_SCOPE_VIOLATION" },
  { tool: "github_search", result: "error", error_code: "UPSTREAM_TIMEOUT" },
  { event: "resource_read" },
  { event: "session_close" },
]);

function verified(changes: Members[]): VerifiedRecord[] {
  const at = (i: number) => (i < 3 ? "2026-11-22T10:00:00.000Z" : "2026-11-22T10:00:00.250Z");
  const timed = changes.map((change, i) => ({ timestamp: at(i), tool: null, ...change }));
  return sessionLines(ID, changes.length, timed).map((line) => {
    const parsed = parseExportLine(line);
    if (!parsed.ok) throw new Error(parsed.message);
    return { record: parsed.record, hash_chain: parsed.stored.hash_chain };
  });
}

const lines = (made: string[]) => made.map((line) => JSON.parse(line));
const recordOf = (i: number): AuditRecord => {
  const found = RECORDS[i]?.record;
  if (found === undefined) throw new Error(`no record ${i}`);
  return found;
};

describe("OCSF API Activity", () => {
  const events = lines(ocsf(RECORDS));

  it("has what the class requires, one event a record", () => {
    expect(events).toHaveLength(RECORDS.length);
    for (const [i, event] of events.entries()) {
      expect(event).toMatchObject({
        category_uid: 6,
        class_uid: 6003,
        type_uid: 600300 + event.activity_id,
        severity_id: 1,
        time: Date.parse(recordOf(i).timestamp),
        metadata: { version: "1.9.0", profiles: ["record_integrity"], sequence: i + 1 },
        actor: { user: { uid: "key:k1" }, session: { uid: ID } },
        unmapped: { hash_chain: RECORDS[i]?.hash_chain },
      });
      expect(event.src_endpoint).toBeDefined();
    }
    expect(events.map(({ activity_id }) => activity_id)).toEqual([1, 2, 3, 3, 3, 99, 2, 99]);
    expect(events.map(({ status_id }) => status_id)).toEqual([1, 1, 99, 1, 2, 2, 1, 1]);
    expect(events[4].status_detail).toBe("refused: PLAN_SCOPE_VIOLATION");
  });

  it("attests each event by the hash of its canonical form, with the event before in it", () => {
    for (const [i, event] of events.entries()) {
      const { fingerprint, ...attestation } = event.attestation;
      expect(fingerprint).toEqual({
        algorithm: "SHA-256",
        algorithm_id: 3,
        value: sha256(canonical({ ...event, attestation })),
      });
      expect(attestation.chain_uid).toBe(ID);
      expect(attestation.prev_event?.fingerprint).toEqual(events[i - 1]?.attestation.fingerprint);
    }
  });
});

describe("the IETF agent audit trail", () => {
  const made = agentAuditTrail(RECORDS);
  const records = lines(made);

  it("has the twelve mandatory fields, chained by the draft's rule, and names its revision", () => {
    expect(AAT_REVISION).toMatch(/^draft-sharif-agent-audit-trail-\d\d$/);
    for (const [i, record] of records.entries()) {
      expect(Object.keys(record)).toEqual(
        expect.arrayContaining([
          ...["record_id", "timestamp", "agent_id", "agent_version", "session_id", "action_type"],
          ...["action_detail", "outcome", "trust_level", "parent_record_id", "prev_hash"],
          "record_phase",
        ]),
      );
      expect(record.recording_component).toContain(AAT_REVISION);
      expect(record.record_id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-/);
      expect(record.prev_hash).toBe(i === 0 ? null : sha256(canonical(records[i - 1])));
      expect(record.parent_record_id).toBe(records[i - 1]?.record_id ?? null);
      expect(record.agent_version).toBe("1.2.3");
      expect(record.action_detail.atlas_gate).toMatchObject({
        seq: i + 1,
        hash_chain: RECORDS[i]?.hash_chain,
      });
    }
    expect(new Set(records.map(({ record_id }) => record_id)).size).toBe(records.length);
  });

  it("tells permission, effect, refusal and failure apart", () => {
    expect(records.map((r) => `${r.action_type} ${r.outcome} ${r.record_phase}`)).toEqual([
      "lifecycle success concurrent",
      "tool_call success post_execution",
      "decision success pre_execution",
      "tool_response success post_execution",
      "decision denied pre_execution",
      "tool_call timeout post_execution",
      "tool_call success post_execution",
      "lifecycle success concurrent",
    ]);
    expect(records[4].deny_reasons).toEqual(["PLAN_SCOPE_VIOLATION"]);
  });

  it("is the same for the same records", () => {
    expect(agentAuditTrail(RECORDS)).toEqual(made);
  });
});

describe("OpenTelemetry spans", () => {
  const [request] = lines(otel(RECORDS));
  const spans = request.resourceSpans[0].scopeSpans[0].spans;
  type Attribute = { key: string; value: { stringValue?: string; intValue?: string } };
  const attributeOf = (span: { attributes: Attribute[] }, key: string) => {
    const value = span.attributes.find((attribute) => attribute.key === key)?.value;
    return value?.stringValue ?? value?.intValue;
  };

  it("are one trace, an intent and its result one span, by the conventions for MCP", () => {
    expect(spans.map(({ name }: { name: string }) => name)).toEqual([
      "initialize",
      "tools/call read_file",
      "tools/call write_file",
      "tools/call write_file",
      "tools/call github_search",
      "resources/read",
      "session_close",
    ]);
    for (const span of spans) {
      expect(span.traceId).toBe(ID.replaceAll("-", ""));
      expect(span.spanId).toMatch(/^[0-9a-f]{16}$/);
      expect(attributeOf(span, "mcp.session.id")).toBe(ID);
    }
    const write = spans[2];
    expect(BigInt(write.endTimeUnixNano) - BigInt(write.startTimeUnixNano)).toBe(250_000_000n);
    expect(attributeOf(write, "gen_ai.operation.name")).toBe("execute_tool");
    expect(attributeOf(write, "gen_ai.tool.name")).toBe("write_file");
    expect(attributeOf(write, "atlas_gate.seq")).toBe("3");
    expect(attributeOf(write, "atlas_gate.result.hash_chain")).toBe(RECORDS[3]?.hash_chain);
    expect([write.kind, spans[6].kind]).toEqual([2, 1]);
  });

  it("mark what failed", () => {
    expect(spans[3].status).toEqual({ code: 2, message: "PLAN_SCOPE_VIOLATION" });
    expect(attributeOf(spans[3], "error.type")).toBe("tool_error");
    expect(spans[1].status).toEqual({});
  });
});
