/**
 * @module
 * The D1 database: the relational archive of records and sessions, the API
 * keys, the registry of upstreams, and what a deployment must remember about itself. `drizzle-kit`
 * generates `migrations/d1` from this file.
 */
import { sql } from "drizzle-orm";
import {
  index,
  integer,
  primaryKey,
  sqliteTable,
  text,
  uniqueIndex,
} from "drizzle-orm/sqlite-core";

/** One row a session, ambient ones included; `wrapped_key` is gone after an erasure. */
export const sessions = sqliteTable(
  "sessions",
  {
    session_id: text().primaryKey(),
    tenant: text().notNull(),
    principal: text().notNull(),
    role: text().notNull(),
    era: text().notNull(),
    workspace_root: text(),
    plan_hash: text(),
    created_at: text().notNull(),
    last_seen_at: text().notNull(),
    /** Records of the session that the archive has been sent, and the hash of the last of them. */
    entries: integer().notNull(),
    head: text(),
    ended_at: text(),
    wrapped_key: text(),
    /** When its arguments and its key were erased, and when its records left for R2 alone. */
    erased_at: text(),
    retired_at: text(),
  },
  (table) => [
    index("sessions_tenant").on(table.tenant, table.session_id),
    index("sessions_live").on(table.principal, table.session_id).where(sql`ended_at is null`),
    index("sessions_expiring").on(table.ended_at).where(sql`retired_at is null`),
  ],
);

/** Made anew for each table: a column remembers the table it was first put into. */
const recordColumns = () => ({
  session_id: text().notNull(),
  seq: integer().notNull(),
  tenant: text().notNull(),
  timestamp: text().notNull(),
  principal: text().notNull(),
  role: text().notNull(),
  event: text().notNull(),
  tool: text(),
  workspace_root: text(),
  plan_hash: text(),
  result: text().notNull(),
  error_code: text(),
  args_hash: text(),
  args_stored_hash: text(),
  result_hash: text(),
  intent_seq: integer(),
  request_id: text().notNull(),
  notes: text(),
  context: text(),
  prev_hash: text().notNull(),
  hash_chain: text().notNull().unique(),
  /** The canonical record, which is what exports return; the columns above only serve searching. */
  line: text().notNull(),
  args: text(),
  salt: text(),
  created_at: text().notNull(),
});

/** Records, newest first by (timestamp, session_id, seq) when paged. */
export const auditLog = sqliteTable("audit_log", recordColumns(), (table) => [
  primaryKey({ columns: [table.session_id, table.seq] }),
  index("audit_log_timestamp").on(table.timestamp, table.session_id, table.seq),
  index("audit_log_tool").on(table.tool).where(sql`tool is not null`),
  index("audit_log_plan_hash").on(table.plan_hash).where(sql`plan_hash is not null`),
  index("audit_log_error_code").on(table.error_code).where(sql`error_code is not null`),
  index("audit_log_workspace_root").on(table.workspace_root).where(sql`workspace_root is not null`),
]);

/** The twin of `audit_log` for records past their retention that a legal hold keeps. */
export const auditLogArchive = sqliteTable("audit_log_archive", recordColumns(), (table) => [
  primaryKey({ columns: [table.session_id, table.seq] }),
]);

/** Legal holds: what one covers is neither erased nor retired while it stands. */
export const legalHolds = sqliteTable("legal_holds", {
  id: text().primaryKey(),
  tenant: text().notNull(),
  /** Null: every session of the tenant. */
  session_id: text(),
  reason: text().notNull(),
  created_at: text().notNull(),
  created_by: text().notNull(),
});

/** How far the daily work has come: one row a task. `state` is JSON. */
export const maintenance = sqliteTable("maintenance", {
  task: text().primaryKey(),
  day: text().notNull(),
  state: text().notNull(),
});

/** API keys: the digest of a key, never the key. */
export const apiKeys = sqliteTable(
  "api_keys",
  {
    id: text().primaryKey(),
    digest: text().notNull(),
    name: text().notNull(),
    role: text().notNull(),
    tenant: text().notNull(),
    /** Id of the first key of the rotation line: the principal is `key:<line>`. */
    line: text().notNull(),
    /** JSON arrays; null narrows nothing. */
    workspaces: text(),
    upstreams: text(),
    allowed_ips: text(),
    tools: text(),
    scopes: text(),
    /** JSON object: what this key may do otherwise than the deployment says. */
    limits: text(),
    created_at: text().notNull(),
    expires_at: text().notNull(),
    last_used_at: text(),
    revoked_at: text(),
    /** The operator who minted it; null for keys from before that was kept. */
    minted_by: text(),
    /** When its end was announced in the log. */
    reminded_at: text(),
  },
  (table) => [
    index("api_keys_line").on(table.line),
    index("api_keys_ending").on(table.expires_at).where(sql`revoked_at is null`),
  ],
);

/** Client certificates and whom each stands for: a line of keys, or a principal of its own. */
export const clientCertificates = sqliteTable(
  "client_certificates",
  {
    id: text().primaryKey(),
    name: text().notNull(),
    /** `sha256:<hex>` of the certificate, or `subject:<distinguished name>`: unique among those that stand. */
    match: text().notNull(),
    /** Either a line of keys, with the rights of its newest live key … */
    line: text(),
    /** … or these. */
    principal: text(),
    role: text(),
    tenant: text(),
    created_at: text().notNull(),
    created_by: text().notNull(),
    last_used_at: text(),
    revoked_at: text(),
  },
  (table) => [
    uniqueIndex("client_certificates_match").on(table.match).where(sql`revoked_at is null`),
  ],
);

/** Workspaces that hold anything, so that plans can be listed across them. */
export const workspaces = sqliteTable(
  "workspaces",
  { tenant: text().notNull(), root: text().notNull(), created_at: text().notNull() },
  (table) => [primaryKey({ columns: [table.tenant, table.root] })],
);

/** Facts fixed at the first start, such as the check value of the secrets. */
export const deployment = sqliteTable("deployment", {
  key: text().primaryKey(),
  value: text().notNull(),
});

/** Upstreams: how each was registered, and what its last refresh found out about it. */
export const upstreams = sqliteTable("upstreams", {
  name: text().primaryKey(),
  /** New with every change of the registration: a refresh that began before one is not written after it. */
  revision: text().notNull(),
  /** JSON of the registration, without its credentials. */
  config: text().notNull(),
  /** Credentials, sealed; the name is authenticated with them. */
  auth: text().notNull(),
  created_at: text().notNull(),
  created_by: text().notNull(),
  updated_at: text().notNull(),
  /** Of the last refresh that went well; null while none did. */
  era: text(),
  protocol_version: text(),
  capabilities: text().notNull(),
  server_info: text(),
  ttl_ms: integer(),
  /** JSON array, as the upstream listed them, bounded. */
  resources: text().notNull(),
  /** JSON array of what was found and left out, each with the reason. */
  left_out: text().notNull(),
  refreshed_at: text(),
  /** Of the last refresh, however it went; `failure` is for the operator. */
  checked_at: text(),
  failure: text(),
});

/** What upstreams offer, each in the copy that an operator approved and the one last seen. */
export const upstreamDefinitions = sqliteTable(
  "upstream_definitions",
  {
    upstream: text().notNull(),
    /** tool, prompt, resource_template or instructions. */
    kind: text().notNull(),
    name: text().notNull(),
    /** pending, approved, changed or gone: which of the two copies there are, and whether they are the same. */
    status: text().notNull(),
    /** Whether an operator marked it as reading only. */
    reads: integer({ mode: "boolean" }).notNull(),
    approved: text(),
    approved_pin: text(),
    approved_by: text(),
    approved_at: text(),
    observed: text(),
    observed_pin: text(),
    observed_at: text().notNull(),
  },
  (table) => [primaryKey({ columns: [table.upstream, table.kind, table.name] })],
);

/** Kill switches, lifted ones too. */
export const killSwitches = sqliteTable(
  "kill_switches",
  {
    id: text().primaryKey(),
    /** JSON of what it stops. */
    scope: text().notNull(),
    reason: text().notNull(),
    engaged_by: text().notNull(),
    engaged_at: text().notNull(),
    lifted_by: text(),
    lifted_at: text(),
    lift_reason: text(),
  },
  (table) => [index("kill_switches_engaged").on(table.id).where(sql`lifted_at is null`)],
);

/** One row: the version of the kill switches that stand. */
export const killSwitchVersion = sqliteTable("kill_switch_version", {
  id: integer().primaryKey(),
  version: integer().notNull(),
});

/** Refused and new connections, kept for 90 days. */
export const connections = sqliteTable(
  "connections",
  {
    id: text().primaryKey(),
    at: text().notNull(),
    outcome: text().notNull(),
    reason: text().notNull(),
    status: integer().notNull(),
    principal: text(),
    address: text(),
    colo: text(),
    tls_version: text(),
    user_agent: text(),
    request_id: text().notNull(),
    /** How many connections like this one it stands for. */
    count: integer().notNull(),
  },
  (table) => [
    index("connections_at").on(table.at, table.id),
    index("connections_principal").on(table.principal, table.at).where(sql`principal is not null`),
    index("connections_outcome").on(table.outcome, table.at, table.id),
  ],
);

/** Counts that are exact: each is written in the transaction of what it counts. */
export const metricCounts = sqliteTable(
  "metric_counts",
  {
    metric: text().notNull(),
    /** JSON object, its keys in the order of the metric's catalogue. */
    labels: text().notNull(),
    value: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.metric, table.labels] })],
);

/** One row: the version of all that clients can see of upstreams, counted up with every change of it. */
export const directoryVersion = sqliteTable("directory_version", {
  id: integer().primaryKey(),
  version: integer().notNull(),
});

/** Logs whose checkpoints this gateway cosigns. A log that changes its key has two rows for a while. */
export const witnessedLogs = sqliteTable(
  "witnessed_logs",
  {
    origin: text().notNull(),
    vkey: text().notNull(),
    added_at: text().notNull(),
    added_by: text().notNull(),
  },
  (table) => [primaryKey({ columns: [table.origin, table.vkey] })],
);
