/**
 * @module
 * Label values from closed lists: whatever a client sends, the number of series
 * stays what it is. Pure.
 */
import { ERROR_CODES } from "../../policy/errors.ts";
import { ROLES } from "../../policy/roles.ts";

/** What stands for a value that no list has. */
export const OTHER = "other";
/** What stands for a value that a request does not have. */
export const NONE = "none";

const METHODS: ReadonlySet<string> = new Set([
  "initialize",
  "ping",
  "server/discover",
  "subscriptions/listen",
  "tools/list",
  "tools/call",
  "prompts/list",
  "prompts/get",
  "resources/list",
  "resources/templates/list",
  "resources/read",
  "resources/subscribe",
  "resources/unsubscribe",
  "completion/complete",
  "logging/setLevel",
  "notifications/initialized",
  "notifications/cancelled",
  "notifications/progress",
  "notifications/roots/list_changed",
  "batch",
  "GET",
  "GET resume",
  "DELETE",
]);
const ROLE_NAMES: ReadonlySet<string> = new Set(ROLES);
const ERAS: ReadonlySet<string> = new Set(["2025", "2026"]);
const CODES: ReadonlySet<string> = new Set(ERROR_CODES);

export function methodLabel(method: string | null): string {
  return method === null ? NONE : METHODS.has(method) ? method : OTHER;
}

export function roleLabel(role: string | null): string {
  return role === null ? NONE : ROLE_NAMES.has(role) ? role : OTHER;
}

export function eraLabel(era: string | null): string {
  return era !== null && ERAS.has(era) ? era : NONE;
}

export function reasonLabel(code: string | null): string {
  return code !== null && CODES.has(code) ? code : OTHER;
}

/** HTTP statuses are the gateway's own; anything outside their range is not one. */
export function statusLabel(status: number): string {
  return Number.isInteger(status) && status >= 100 && status <= 599 ? String(status) : OTHER;
}
