/**
 * @module
 * OCSF 1.9.0, class API Activity (6003) with the profile `record_integrity`:
 * an event's attestation holds the fingerprint of the event itself, and refers
 * to the one before, so that the export is a chain of its own.
 */
import { canonicalJson } from "../audit/canonical.ts";
import { sha256Hex } from "../audit/hash-portable.ts";
import type { JsonObject } from "../audit/json.ts";
import type { AuditRecord } from "../audit/record.ts";
import { isDenial, type Profile, type VerifiedRecord } from "./profile.ts";

export const OCSF_VERSION = "1.9.0";
const CATEGORY = 6;
const CLASS = 6003;
const SHA_256 = 3;

const OTHER = 99;
const ACTIVITIES: Readonly<Record<string, number>> = {
  session_open: 1,
  read_file: 2,
  list_files: 2,
  read_plan: 2,
  list_plans: 2,
  read_audit_log: 2,
  resource_read: 2,
  prompt_get: 2,
  write_file: 3,
  delete_file: 4,
};
const ACTIVITY_NAMES: Readonly<Record<number, string>> = {
  1: "Create",
  2: "Read",
  3: "Update",
  4: "Delete",
};

/** One event a record, in order, in RFC 8785 form. */
export const ocsf: Profile = (records) => {
  let previous: JsonObject | null = null;
  return records.map((verified) => {
    const attestation: JsonObject = {
      authority_uid: "atlas-gate",
      chain_uid: verified.record.session_id,
      ...(previous === null ? {} : { prev_event: previous }),
    };
    const event = { ...eventOf(verified), attestation };
    // Over the event with its attestation, except what comes to it now.
    const value = sha256Hex(canonicalJson(event));
    const fingerprint = { algorithm: "SHA-256", algorithm_id: SHA_256, value };
    previous = { uid: uidOf(verified.record), fingerprint };
    return canonicalJson({ ...event, attestation: { ...attestation, fingerprint } });
  });
};

function eventOf({ record, hash_chain }: VerifiedRecord): JsonObject {
  const activity = ACTIVITIES[record.tool ?? record.event] ?? OTHER;
  const { seq, prev_hash, args_stored_hash, result_hash, intent_seq, plan_hash } = record;
  return {
    activity_id: activity,
    activity_name: ACTIVITY_NAMES[activity] ?? record.event,
    actor: {
      session: { uid: record.session_id },
      user: { uid: record.principal, type_id: OTHER, type: record.role },
    },
    api: {
      operation: record.tool ?? record.event,
      request: { uid: record.request_id },
      ...(record.error_code === null ? {} : { response: { error: record.error_code } }),
      service: { name: "atlas-gate" },
    },
    category_uid: CATEGORY,
    class_uid: CLASS,
    metadata: {
      event_code: record.event,
      log_name: "atlas-gate audit chain",
      original_time: record.timestamp,
      product: { name: "Atlas Gate", vendor_name: "Atlas Gate" },
      profiles: ["record_integrity"],
      sequence: seq,
      tenant_uid: record.tenant,
      uid: uidOf(record),
      version: OCSF_VERSION,
    },
    ...(record.workspace_root === null
      ? {}
      : { resources: [{ name: record.workspace_root, type: "workspace" }] }),
    severity_id: 1,
    // Who called is known; from where is in the connection log, not in the chain.
    src_endpoint: { uid: record.principal },
    ...statusOf(record),
    time: Date.parse(record.timestamp),
    type_uid: CLASS * 100 + activity,
    unmapped: { args_stored_hash, hash_chain, intent_seq, plan_hash, prev_hash, result_hash },
  };
}

function uidOf({ session_id, seq }: AuditRecord): string {
  return `${session_id}/${seq}`;
}

function statusOf(record: AuditRecord): JsonObject {
  if (record.result === "ok") return { status: "Success", status_id: 1 };
  if (record.result !== "error") return { status: record.result, status_id: OTHER };
  const detail = isDenial(record) ? `refused: ${record.error_code}` : (record.error_code ?? "");
  return { status: "Failure", status_detail: detail, status_id: 2 };
}
