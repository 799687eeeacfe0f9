/**
 * @module
 * Every metric that there is: its type, its labels and what it says. Alert
 * rules and dashboards are held against this table.
 */

export type MetricType = "counter" | "gauge" | "histogram";

export type Metric = {
  readonly type: MetricType;
  readonly labels: readonly string[];
  readonly help: string;
};

export const METRICS = {
  mcp_requests_total: {
    type: "counter",
    labels: ["role", "method", "era", "status"],
    help: "Requests to /mcp.",
  },
  mcp_tool_calls_total: {
    type: "counter",
    labels: ["role", "tool", "result"],
    help: "Archived tool_call and tool_result records; exact.",
  },
  mcp_audit_entries_total: {
    type: "counter",
    labels: ["role", "result"],
    help: "Archived records; exact.",
  },
  mcp_session_active: {
    type: "gauge",
    labels: ["era"],
    help: "Sessions in the archive that have not ended.",
  },
  mcp_uptime_seconds: {
    type: "gauge",
    labels: [],
    help: "Seconds since the deployment's first request.",
  },
  mcp_request_duration_seconds: {
    type: "histogram",
    labels: [],
    help: "Time until the response to a request to /mcp begins.",
  },
  mcp_upstream_duration_seconds: {
    type: "histogram",
    labels: ["upstream"],
    help: "Time that an upstream took for one exchange.",
  },
  mcp_auth_failures_total: {
    type: "counter",
    labels: ["reason"],
    help: "Requests refused with 401 or 403.",
  },
  mcp_flush_lag_seconds: {
    type: "gauge",
    labels: ["sink"],
    help: "Age of the oldest flush that a sink has not taken; 0 while none fails.",
  },
  mcp_flush_failures_total: {
    type: "counter",
    labels: ["sink"],
    help: "Flushes that a sink did not take.",
  },
  mcp_log_size: { type: "gauge", labels: [], help: "Leaves of the transparency log." },
  mcp_log_checkpoint_age_seconds: {
    type: "gauge",
    labels: [],
    help: "Age of the transparency log's newest checkpoint.",
  },
  mcp_upstream_up: {
    type: "gauge",
    labels: ["upstream"],
    help: "1 if the upstream's last refresh went well.",
  },
  mcp_kill_switches: { type: "gauge", labels: [], help: "Kill switches that stand." },
  mcp_check_findings: {
    type: "gauge",
    labels: ["check"],
    help: "What a scheduled check found in its last run.",
  },
  mcp_check_age_seconds: {
    type: "gauge",
    labels: [],
    help: "Time since the scheduled checks last ran.",
  },
  mcp_key_expires_in_seconds: {
    type: "gauge",
    labels: ["role"],
    help: "Until the next key of a role ends that has no successor; absent while none does within a week.",
  },
  mcp_scrape_source_up: {
    type: "gauge",
    labels: ["source"],
    help: "1 if a source of this exposition answered; its series are absent otherwise.",
  },
  mcp_alarms_total: {
    type: "counter",
    labels: ["alarm"],
    help: "Events that must not happen at all, such as a changed record.",
  },
} as const satisfies Record<string, Metric>;

export type MetricName = keyof typeof METRICS;

/** The definition of a metric, by a name that may be none. */
export function metricOf(name: string): Metric | null {
  return isMetric(name) ? METRICS[name] : null;
}

export function isMetric(name: string): name is MetricName {
  return Object.hasOwn(METRICS, name);
}

/** Upper bounds of histograms, in seconds: from a cached answer to a call that times out. */
export const BUCKETS_SECONDS = [
  0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
] as const;
