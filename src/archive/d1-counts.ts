/**
 * @module
 * Exact counts of what D1 has been given, in the transaction that writes it:
 * only rows that are new are counted, however often a flush is repeated.
 */
import type { StoredRecord } from "../audit/record.ts";
import type { SessionRow } from "./archive.ts";
import type { D1Handle } from "./d1.ts";

/**
 * Counts records that are not in the archive yet; to be run before they are
 * inserted. Labels are in the order of the metrics' catalogue.
 */
const COUNT_RECORDS = `
  WITH batch AS MATERIALIZED (
    SELECT jsonb(value ->> '$.line') AS record, value ->> '$.hash_chain' AS hash_chain
    FROM json_each(?1)
  ), fresh AS MATERIALIZED (
    SELECT record ->> '$.role' AS role, record ->> '$.result' AS result,
      record ->> '$.event' AS event, record ->> '$.tool' AS tool
    FROM batch
    WHERE NOT EXISTS (
      SELECT 1 FROM audit_log AS stored
      WHERE stored.session_id = record ->> '$.session_id' AND stored.seq = record ->> '$.seq'
    ) AND NOT EXISTS (
      SELECT 1 FROM audit_log_archive AS aside
      WHERE aside.session_id = record ->> '$.session_id' AND aside.seq = record ->> '$.seq'
    ) AND NOT EXISTS (
      SELECT 1 FROM audit_log AS stored WHERE stored.hash_chain = batch.hash_chain
    )
  ), series AS (
    SELECT 'mcp_audit_entries_total' AS metric,
      json_object('role', role, 'result', result) AS labels
    FROM fresh
    UNION ALL
    SELECT 'mcp_tool_calls_total', json_object(
      'role', role,
      'tool', CASE WHEN tool IN (SELECT value FROM json_each(?2)) THEN tool ELSE 'other' END,
      'result', result
    )
    FROM fresh WHERE event IN ('tool_call', 'tool_result')
  )
  INSERT INTO metric_counts (metric, labels, value)
  SELECT metric, labels, count(*) FROM series WHERE true GROUP BY metric, labels
  ON CONFLICT (metric, labels) DO UPDATE SET value = value + excluded.value`;

/** Counts the tools and results of a batch, by the names that are known and one for all others. */
export function countRecords(
  db: D1Handle,
  batch: readonly Pick<StoredRecord, "line" | "hash_chain">[],
  knownTools: readonly string[],
): D1PreparedStatement {
  const lines = batch.map(({ line, hash_chain }) => ({ line, hash_chain }));
  return db.prepare(COUNT_RECORDS).bind(JSON.stringify(lines), JSON.stringify(knownTools));
}

/**
 * Keeps the number of live sessions; to be run before the session's row is
 * written. A row that is newer, or has ended, stays as it is.
 */
const COUNT_SESSION = `
  INSERT INTO metric_counts (metric, labels, value)
  SELECT 'mcp_session_active', json_object('era', ?2), change FROM (
    SELECT CASE
      WHEN EXISTS (
        SELECT 1 FROM sessions WHERE session_id = ?1 AND (entries > ?3 OR ended_at IS NOT NULL)
      ) THEN 0
      ELSE (?4 IS NULL) - EXISTS (SELECT 1 FROM sessions WHERE session_id = ?1)
    END AS change
  ) WHERE change <> 0
  ON CONFLICT (metric, labels) DO UPDATE SET value = value + excluded.value`;

/** Counts a session that opens, and takes one off that ends. */
export function countSession(db: D1Handle, session: SessionRow): D1PreparedStatement {
  const { session_id, era, entries, ended_at } = session;
  return db.prepare(COUNT_SESSION).bind(session_id, era, entries, ended_at);
}
