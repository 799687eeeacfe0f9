/**
 * @module
 * The IETF individual draft Agent Audit Trail, in the revision named below: JSONL
 * records with the draft's twelve mandatory fields, chained by its rule
 * (`prev_hash` is the SHA-256 of the RFC 8785 form of the record before).
 * Unsigned: the evidence is the session's own chain and the log above it.
 */
import { canonicalJson } from "../audit/canonical.ts";
import { sha256Hex } from "../audit/hash-portable.ts";
import type { JsonObject } from "../audit/json.ts";
import type { AuditRecord } from "../audit/record.ts";
import { isDenial, type Profile, type VerifiedRecord } from "./profile.ts";

export const AAT_REVISION = "draft-sharif-agent-audit-trail-06";

const SEMVER = /^\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?$/;
/** Semantic versioning's word for a version that is not known. */
const UNKNOWN_VERSION = "0.0.0";
/** A credential that this deployment issued; nothing is attested about the agent that holds it. */
const TRUST_LEVEL = "L1";

export const agentAuditTrail: Profile = (records) => {
  const version = versionOf(records[0]?.record);
  let parent: { record_id: string; hash: string } | null = null;
  return records.map((verified) => {
    const { record, hash_chain } = verified;
    const record_id = uuidOf(hash_chain);
    const line = canonicalJson({
      record_id,
      timestamp: record.timestamp,
      agent_id: `urn:atlas-gate:agent:${encodeURIComponent(record.tenant)}:${encodeURIComponent(record.principal)}`,
      agent_version: version,
      session_id: record.session_id,
      ...actionOf(verified),
      outcome: outcomeOf(record),
      trust_level: TRUST_LEVEL,
      parent_record_id: parent?.record_id ?? null,
      prev_hash: parent?.hash ?? null,
      // The gateway records, not the agent; and it says by which text.
      recording_component: `urn:atlas-gate:gateway:${AAT_REVISION}`,
      ...(isDenial(record) ? { deny_reasons: [record.error_code] } : {}),
    });
    parent = { record_id, hash: sha256Hex(line) };
    return line;
  });
};

/** The draft's classification, its phase, and the record behind it. */
function actionOf({ record, hash_chain }: VerifiedRecord): JsonObject {
  const { event, tool, seq, error_code, plan_hash, intent_seq, result_hash } = record;
  const source = {
    atlas_gate: {
      event,
      seq,
      hash_chain,
      args_stored_hash: record.args_stored_hash,
      result: record.result,
      result_hash,
      intent_seq,
      plan_hash,
      request_id: record.request_id,
    },
  };
  if (isDenial(record)) {
    return {
      action_type: "decision",
      action_detail: { ...source, decision_type: "tool_authorization", tool_name: tool },
      record_phase: "pre_execution",
    };
  }
  switch (event) {
    case "tool_intent":
      // Before anything leaves the gateway: that it may.
      return {
        action_type: "decision",
        action_detail: { ...source, decision_type: "tool_authorization", tool_name: tool },
        record_phase: "pre_execution",
      };
    case "tool_result":
      return {
        action_type: "tool_response",
        action_detail: { ...source, tool_name: tool, error_code },
        record_phase: "post_execution",
      };
    case "session_open":
    case "session_bind":
    case "session_close":
    case "admin":
      return {
        action_type: "lifecycle",
        action_detail: { ...source, event: LIFECYCLE[event] },
        record_phase: "concurrent",
      };
    default:
      return {
        action_type: "tool_call",
        action_detail: { ...source, tool_name: tool ?? event, error_code },
        record_phase: "post_execution",
      };
  }
}

const LIFECYCLE = {
  session_open: "session_start",
  session_bind: "configuration_change",
  session_close: "session_end",
  admin: "configuration_change",
} as const;

function outcomeOf(record: AuditRecord): string {
  if (record.result === "input_required") return "escalated";
  if (record.result !== "error") return "success";
  if (isDenial(record)) return "denied";
  return record.error_code === "UPSTREAM_TIMEOUT" ? "timeout" : "failure";
}

/** The client's version as it named itself when the session was opened. */
function versionOf(first: AuditRecord | undefined): string {
  const client = first?.context?.client;
  if (typeof client !== "object" || client === null || Array.isArray(client))
    return UNKNOWN_VERSION;
  const { version } = client;
  return typeof version === "string" && SEMVER.test(version) ? version : UNKNOWN_VERSION;
}

/** A UUID of version 4's form out of a hash: the same export for the same records. */
function uuidOf(hash: string): string {
  const variant = ((Number.parseInt(hash[16] ?? "0", 16) & 0x3) | 0x8).toString(16);
  return [
    hash.slice(0, 8),
    hash.slice(8, 12),
    `4${hash.slice(13, 16)}`,
    `${variant}${hash.slice(17, 20)}`,
    hash.slice(20, 32),
  ].join("-");
}
