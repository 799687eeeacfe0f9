/**
 * @module
 * Label values from closed lists: whatever a client sends, the number of series
 * stays what it is. Every label of the catalogue has its list here, and what an
 * isolate counts under a value of none is counted as `other`. Pure.
 */

import type { AuditRecord } from "../../audit/record.ts";
import { ERROR_CODES } from "../../policy/errors.ts";
import { ROLES } from "../../policy/roles.ts";
import type { SinkName } from "../../session/store.ts";
import type { CheckName } from "../checks/finding.ts";
import type { METRICS, MetricName } from "./catalogue.ts";

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

const RESULTS = [
  "ok",
  "error",
  "pending",
  "input_required",
] as const satisfies readonly AuditRecord["result"][];
/** Both are written out: one that is missing does not compile, and nothing here imports what does I/O. */
const SINKS: Readonly<Record<SinkName, true>> = { archive: true, segments: true, log: true };
const CHECKS: Readonly<Record<CheckName, true>> = {
  stalled_flush: true,
  lost_alarm: true,
  log: true,
  expiring_key: true,
};
/** Each is a label, an alert's key and an event of the log. */
export const ALARMS = [
  "archive_conflict",
  "log_refused",
  "log_bucket_rolled_back",
  "log_not_witnessed",
  "witnessed_log_forked",
] as const;
/** What a scrape is made of. */
export const SOURCES = [
  "archive",
  "isolates",
  "upstreams",
  "kill_switches",
  "keys",
  "log",
] as const;
const STATUSES = Array.from({ length: 500 }, (_, n) => String(100 + n));

type LabelName = (typeof METRICS)[MetricName]["labels"][number];

/** Names that an operator has given, each by registering something: as many as there are of those. */
export const REGISTERED = "registered";

/** The values that a label may have, `other` and `none` apart. A label of the catalogue that is not here does not compile. */
export const LABEL_VALUES: Readonly<Record<LabelName, ReadonlySet<string> | typeof REGISTERED>> = {
  role: ROLE_NAMES,
  method: METHODS,
  era: new Set([...ERAS, "ambient"]),
  status: new Set(STATUSES),
  result: new Set(RESULTS),
  reason: CODES,
  sink: new Set(Object.keys(SINKS)),
  check: new Set(Object.keys(CHECKS)),
  alarm: new Set(ALARMS),
  source: new Set(SOURCES),
  tool: REGISTERED,
  upstream: REGISTERED,
};

/** The value, or `other` where the label's list does not have it. */
export function closedValue(label: string, value: string): string {
  if (value === NONE || value === OTHER) return value;
  const values = hasValues(label) ? LABEL_VALUES[label] : new Set<string>();
  return values === REGISTERED || values.has(value) ? value : OTHER;
}

function hasValues(label: string): label is LabelName {
  return Object.hasOwn(LABEL_VALUES, label);
}

/** HTTP statuses are the gateway's own; anything outside their range is not one. */
export function statusLabel(status: number): string {
  return Number.isInteger(status) && status >= 100 && status <= 599 ? String(status) : OTHER;
}
