/**
 * @module
 * The archive in PostgreSQL: sessions and their records. Everything else of a
 * deployment stays in D1. `drizzle-kit` generates `migrations/postgres` from
 * this file; roles, grants and triggers are written there by hand.
 */
import { sql } from "drizzle-orm";
import {
  bigint,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  timestamp,
  uuid,
} from "drizzle-orm/pg-core";

const instant = () => timestamp({ withTimezone: true, precision: 3, mode: "string" });

/** One row a session, ambient ones included; `wrapped_key` is gone after an erasure. */
export const sessions = pgTable(
  "sessions",
  {
    session_id: uuid().primaryKey(),
    tenant: text().notNull(),
    principal: text().notNull(),
    role: text().notNull(),
    era: text().notNull(),
    workspace_root: text(),
    plan_hash: text(),
    created_at: instant().notNull(),
    last_seen_at: instant().notNull(),
    /** Records of the session that the archive has been sent, and the hash of the last of them. */
    entries: integer().notNull(),
    head: text(),
    ended_at: instant(),
    wrapped_key: text(),
    /** When its arguments and its key were erased, and when its records left for R2 alone. */
    erased_at: instant(),
    retired_at: instant(),
  },
  (table) => [
    index("sessions_tenant").on(table.tenant, table.session_id),
    index("sessions_live").on(table.principal, table.session_id).where(sql`ended_at is null`),
    index("sessions_expiring").on(table.ended_at).where(sql`retired_at is null`),
  ],
);

/** Made anew for each table: a column remembers the table it was first put into. */
const recordColumns = () => ({
  session_id: uuid().notNull(),
  seq: integer().notNull(),
  tenant: text().notNull(),
  timestamp: instant().notNull(),
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
  context: jsonb(),
  prev_hash: text().notNull(),
  hash_chain: text().notNull().unique(),
  /** The canonical record, which is what exports return; the columns above only serve searching. */
  line: text().notNull(),
  args: jsonb(),
  /** The canonical arguments, only where `jsonb` cannot hold them exactly: it has no NUL. */
  args_text: text(),
  salt: text(),
  created_at: instant().notNull().defaultNow(),
});

/** Records, newest first by (timestamp, session_id, seq) when paged. */
export const auditLog = pgTable("audit_log", recordColumns(), (table) => [
  primaryKey({ columns: [table.session_id, table.seq] }),
  index("audit_log_timestamp").on(table.timestamp, table.session_id, table.seq),
  index("audit_log_tool").on(table.tool).where(sql`tool is not null`),
  index("audit_log_plan_hash").on(table.plan_hash).where(sql`plan_hash is not null`),
  index("audit_log_error_code").on(table.error_code).where(sql`error_code is not null`),
  index("audit_log_workspace_root").on(table.workspace_root).where(sql`workspace_root is not null`),
]);

/** The twin of `audit_log` for records past their retention that a legal hold keeps. */
export const auditLogArchive = pgTable("audit_log_archive", recordColumns(), (table) => [
  primaryKey({ columns: [table.session_id, table.seq] }),
]);

/** Counts that are exact: each is written in the transaction of what it counts. */
export const metricCounts = pgTable(
  "metric_counts",
  {
    metric: text().notNull(),
    /** JSON object, its keys in the order of the metric's catalogue. */
    labels: text().notNull(),
    value: bigint({ mode: "number" }).notNull(),
  },
  (table) => [primaryKey({ columns: [table.metric, table.labels] })],
);
