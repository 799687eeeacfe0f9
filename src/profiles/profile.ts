/**
 * @module
 * What an export profile is: a pure function from verified records to lines in
 * the words of another standard. Every line names the record and the hash that
 * it was made of, so that a reader can go back to the evidence.
 */
import type { AuditRecord } from "../audit/record.ts";

/** A record that was verified, with its recomputed hash. */
export type VerifiedRecord = { readonly record: AuditRecord; readonly hash_chain: string };

/** The lines of an export, without their line feeds. */
export type Profile = (records: readonly VerifiedRecord[]) => string[];

/** Codes of refusals: the gateway decided, and nothing was carried out. */
const DENIALS: ReadonlySet<string> = new Set([
  "FORBIDDEN",
  "KILL_SWITCH",
  "RATE_LIMITED",
  "QUOTA_EXCEEDED",
  "ROLE_FORBIDDEN",
  "PLAN_REQUIRED",
  "PLAN_NOT_FOUND",
  "PLAN_NOT_APPROVED",
  "PLAN_EXPIRED",
  "PLAN_SCOPE_VIOLATION",
  "PATH_ESCAPE",
  "SESSION_REQUIRED",
  "SESSION_NOT_FOUND",
  "TOOL_CHANGED",
  "TOOL_NOT_FOUND",
]);

/** Whether a record says that the gateway refused. */
export function isDenial({ result, error_code }: AuditRecord): boolean {
  return result === "error" && error_code !== null && DENIALS.has(error_code);
}
