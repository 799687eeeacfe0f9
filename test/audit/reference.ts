/**
 * @module
 * A second, plain implementation of what the audit code computes, so that the
 * tests do not compare the code with itself.
 */
import { createHash } from "node:crypto";

export function sha256(...parts: (string | Uint8Array)[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
}

/** RFC 8785 for the values that tests make: keys in UTF-16 order, the rest as ECMAScript writes it. */
export function canonical(value: unknown): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([key, item]) => `${JSON.stringify(key)}:${canonical(item)}`).join(",")}}`;
}

export type Members = { [key: string]: unknown };

/** A session's genesis, straight from its definition. */
export function genesisOf(tenant: string, sessionId: string): string {
  return sha256(`atlas-gate/chain/v1\n${tenant}\n${sessionId}\n`);
}

/** An export line from a record's members and what travels beside it. */
export function lineOf(record: Members, args: unknown = null, salt: string | null = null): string {
  return canonical({ ...record, hash_chain: sha256(canonical(record)), args, salt });
}

/**
 * Links records of any content into a chain, as somebody who holds all of it
 * could: seq and prev_hash as they must be, unless a record says otherwise.
 */
export function linkRecords(tenant: string, sessionId: string, records: Members[]): string[] {
  let prev = genesisOf(tenant, sessionId);
  return records.map((members, at) => {
    const record = { ...blank(tenant, sessionId, at + 1), prev_hash: prev, ...members };
    prev = sha256(canonical(record));
    return lineOf(record);
  });
}

function blank(tenant: string, sessionId: string, seq: number): Members {
  return {
    v: 1,
    tenant,
    session_id: sessionId,
    seq,
    timestamp: "2026-11-22T10:00:00.000Z",
    principal: "key:k1",
    role: "windsurf",
    event: "tool_call",
    tool: null,
    workspace_root: null,
    plan_hash: null,
    result: "ok",
    error_code: null,
    args_hash: null,
    args_stored_hash: null,
    result_hash: null,
    intent_seq: null,
    request_id: `r-${seq}`,
    notes: null,
    context: null,
  };
}
