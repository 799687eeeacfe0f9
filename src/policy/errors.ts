/**
 * @module
 * The gateway's refusals: one closed list of codes, and the shape of every policy decision. The
 * mapping to JSON-RPC and HTTP happens elsewhere, once.
 */

export const ERROR_CODES = [
  "UNAUTHENTICATED",
  "KEY_EXPIRED",
  "FORBIDDEN",
  "ORIGIN_FORBIDDEN",
  "ADDRESS_FORBIDDEN",
  "CLIENT_CERT_REQUIRED",
  "MISDIRECTED",
  "RATE_LIMITED",
  "QUOTA_EXCEEDED",
  "PAYLOAD_TOO_LARGE",
  "OVERLOADED",
  "KILL_SWITCH",
  "SESSION_REQUIRED",
  "SESSION_NOT_FOUND",
  "ROLE_FORBIDDEN",
  "PLAN_REQUIRED",
  "PLAN_NOT_FOUND",
  "PLAN_NOT_APPROVED",
  "PLAN_EXPIRED",
  "PLAN_SCOPE_VIOLATION",
  "PATH_ESCAPE",
  "NOT_FOUND",
  "CONFLICT",
  "INVALID_ARGUMENT",
  "TOOL_NOT_FOUND",
  "TOOL_CHANGED",
  "UPSTREAM_UNAVAILABLE",
  "UPSTREAM_TIMEOUT",
  "UPSTREAM_ERROR",
  "UPSTREAM_UNAUTHORIZED",
  "CANCELLED",
  "OUTCOME_UNKNOWN",
  "INTERNAL_ERROR",
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** `message` says what happened and what to do, in one or two sentences, without the code. */
export type Refusal = { readonly code: ErrorCode; readonly message: string };

export type Decision<T = void> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly refusal: Refusal };

export function allow(): Decision;
export function allow<T>(value: T): Decision<T>;
export function allow<T>(value?: T): Decision<T | undefined> {
  return { ok: true, value };
}

/** A refusal is a decision of every type: there is no value in it. */
export function refuse(code: ErrorCode, message: string): { ok: false; refusal: Refusal } {
  return { ok: false, refusal: { code, message } };
}
