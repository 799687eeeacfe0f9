/**
 * @module
 * Exact counts of what PostgreSQL has been given, in the transaction that writes
 * it: only rows that are new are counted, however often a flush is repeated.
 */
import type { Client } from "pg";
import { labelsText } from "../ops/metrics/series.ts";
import type { ExactCount, SessionRow } from "./archive.ts";

/** What counting needs of a record that was inserted. */
export type InsertedRecord = {
  readonly role: string;
  readonly result: string;
  readonly event: string;
  readonly tool: string | null;
};

const CALL_EVENTS: ReadonlySet<string> = new Set(["tool_call", "tool_result"]);

/** The counts of records that were new; tools outside `knownTools` under one name. */
export function countsOfRecords(
  inserted: readonly InsertedRecord[],
  knownTools: readonly string[],
): ExactCount[] {
  const known = new Set(knownTools);
  return summed(
    inserted.flatMap(({ role, result, event, tool }): ExactCount[] => [
      {
        metric: "mcp_audit_entries_total",
        labels: labelsText("mcp_audit_entries_total", { role, result }),
        value: 1,
      },
      ...(CALL_EVENTS.has(event)
        ? [
            {
              metric: "mcp_tool_calls_total",
              labels: labelsText("mcp_tool_calls_total", {
                role,
                tool: tool !== null && known.has(tool) ? tool : "other",
                result,
              }),
              value: 1,
            },
          ]
        : []),
    ]),
  );
}

/** How a session's row changed the number of live ones; `before` is null where there was none. */
export function countsOfSession(
  { era, ended_at }: SessionRow,
  before: { readonly ended: boolean } | null,
): ExactCount[] {
  const change = (ended_at === null ? 1 : 0) - (before === null || before.ended ? 0 : 1);
  if (change === 0 || before?.ended === true) return [];
  return [
    {
      metric: "mcp_session_active",
      labels: labelsText("mcp_session_active", { era }),
      value: change,
    },
  ];
}

const ADD_COUNTS = `
  INSERT INTO metric_counts (metric, labels, value)
  SELECT metric, labels, value
  FROM jsonb_to_recordset($1::jsonb) AS r(metric text, labels text, value bigint)
  ON CONFLICT (metric, labels) DO UPDATE SET value = metric_counts.value + excluded.value`;

/**
 * Adds counts to what is stored, in the client's transaction. The last thing in
 * it: its rows are everybody's, and locked until the commit.
 */
export async function addCounts(client: Client, counts: readonly ExactCount[]): Promise<void> {
  if (counts.length === 0) return;
  await client.query(ADD_COUNTS, [JSON.stringify(summed(counts))]);
}

/** One count a series, in one order for all, so that two transactions never wait for each other. */
function summed(counts: readonly ExactCount[]): ExactCount[] {
  const totals = new Map<string, ExactCount>();
  for (const count of counts) {
    const key = `${count.metric} ${count.labels}`;
    totals.set(key, { ...count, value: (totals.get(key)?.value ?? 0) + count.value });
  }
  return [...totals].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, count]) => count);
}
