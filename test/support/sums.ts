/**
 * @module
 * Whether an archive's exact counts are what it holds: every test file ends with
 * this question, whatever it did to the gateway. Pure; the stores are read by
 * `archive-sums.ts` of each kind of tests.
 *
 * What makes the two differ is allowed only where the store itself says so: a
 * session that was retired says how many records left with it. What a test
 * changed behind the gateway's back is taken off by the series it changed.
 */
import type { ExactCount } from "../../src/archive/archive.ts";
import { labelsText } from "../../src/ops/metrics/series.ts";
import { builtInToolNames } from "../../src/tools/index.ts";

/** Records of one kind. `n` may come as text: PostgreSQL counts in bigint. */
export type HeldRecords = {
  readonly role: string;
  readonly result: string;
  readonly event: string;
  readonly tool: string | null;
  readonly n: number | string;
};

/** Sessions of one kind, and how many records the archive has been sent of them. */
export type HeldSessions = {
  readonly era: string;
  readonly role: string;
  readonly live: number;
  readonly retired: number;
  readonly n: number | string;
  readonly entries: number | string;
};

export type ArchiveSums = {
  readonly counts: readonly (Omit<ExactCount, "value"> & { value: number | string })[];
  readonly records: readonly HeldRecords[];
  readonly sessions: readonly HeldSessions[];
};

/** Both databases understand them. To be asked in one transaction. */
export const SUM_QUERIES = {
  counts: "SELECT metric, labels, value FROM metric_counts",
  records: `SELECT role, result, event, tool, count(*) AS n FROM (
      SELECT role, result, event, tool FROM audit_log
      UNION ALL SELECT role, result, event, tool FROM audit_log_archive
    ) AS held GROUP BY role, result, event, tool`,
  sessions: `SELECT era, role, live, retired, count(*) AS n, sum(entries) AS entries FROM (
      SELECT era, role, entries,
        CASE WHEN ended_at IS NULL THEN 1 ELSE 0 END AS live,
        CASE WHEN retired_at IS NULL THEN 0 ELSE 1 END AS retired
      FROM sessions
    ) AS each_session GROUP BY era, role, live, retired`,
} as const;

/** Numbers by series; a series is a metric and its labels, as the exposition would name it. */
export type Series = ReadonlyMap<string, number>;

const ENTRIES = "mcp_audit_entries_total";
const CALLS = "mcp_tool_calls_total";
const SESSIONS = "mcp_session_active";
const CALL_EVENTS: ReadonlySet<string> = new Set(["tool_call", "tool_result"]);
const BUILT_IN: ReadonlySet<string> = new Set(builtInToolNames());
const OTHER = "other";

/** What the rows themselves say; tools under the names that they were called by. */
export function heldSeries({ records, sessions }: ArchiveSums): Map<string, number> {
  const held = new Map<string, number>();
  for (const { role, result, event, tool, n } of records) {
    add(held, seriesOf(ENTRIES, { role, result }), Number(n));
    if (!CALL_EVENTS.has(event)) continue;
    add(held, seriesOf(CALLS, { role, tool: tool ?? OTHER, result }), Number(n));
  }
  for (const { era, live, n } of sessions) add(held, seriesOf(SESSIONS, { era }), live * Number(n));
  return held;
}

/** How the rows changed between two looks. */
export function changeOf(before: Series, after: Series): Map<string, number> {
  const change = new Map<string, number>();
  for (const series of new Set([...before.keys(), ...after.keys()])) {
    const by = (after.get(series) ?? 0) - (before.get(series) ?? 0);
    if (by !== 0) change.set(series, by);
  }
  return change;
}

/**
 * Every series whose count is not what the archive holds, with both numbers.
 *
 * @param tampered what a test changed in the rows behind the gateway's back
 */
export function sumProblems(sums: ArchiveSums, tampered: Series = new Map()): string[] {
  const held = heldSeries(sums);
  for (const [series, by] of tampered) add(held, series, -by);
  const counted = new Map<string, number>();
  const problems: string[] = [];
  for (const { metric, labels, value } of sums.counts) {
    const series = namedSeries(metric, labels);
    if (series === null) problems.push(`${metric}${labels}: there is no such series`);
    else add(counted, series, Number(value));
  }
  const left = retiredByRole(sums.sessions);
  const missing = missingEntries(held, counted);
  problems.push(
    ...sessionProblems(held, counted),
    ...entryProblems(held, counted, missing, left),
    ...callProblems(held, counted, (role, result) =>
      (left.get(role) ?? 0) > 0
        ? Math.max(0, missing.get(seriesOf(ENTRIES, { role, result })) ?? 0)
        : 0,
    ),
  );
  return problems;
}

/** The number of live sessions is no count of what came: nothing explains a difference. */
function sessionProblems(held: Series, counted: Series): string[] {
  return seriesNamed(SESSIONS, held, counted).flatMap(({ series }) =>
    difference(series, counted.get(series) ?? 0, held.get(series) ?? 0),
  );
}

/** A retired session says how many records left, by its role; their results are not known any more. */
function entryProblems(
  held: Series,
  counted: Series,
  missing: Series,
  left: ReadonlyMap<string, number>,
): string[] {
  const all = seriesNamed(ENTRIES, held, counted);
  const problems = all.flatMap(({ series, labels }) => {
    const gone = missing.get(series) ?? 0;
    const mayHaveLeft = (left.get(labels.role ?? "") ?? 0) > 0;
    if (gone === 0 || (gone > 0 && mayHaveLeft)) return [];
    return difference(series, counted.get(series) ?? 0, held.get(series) ?? 0);
  });
  for (const [role, retired] of left) {
    const gone = all
      .filter(({ labels }) => labels.role === role)
      .reduce((total, { series }) => total + (missing.get(series) ?? 0), 0);
    if (gone !== retired) {
      problems.push(`${ENTRIES}{role ${role}}: ${gone} are gone, ${retired} were retired`);
    }
  }
  return problems;
}

/**
 * Built-in tools are always counted by their names, and by role and result all
 * calls are. An upstream's tool is `other` until an operator has approved it, so
 * that its own count may be less than its rows, and never more.
 */
function callProblems(
  held: Series,
  counted: Series,
  leftOf: (role: string, result: string) => number,
): string[] {
  const totals = new Map<string, { counted: number; held: number; left: number }>();
  const problems: string[] = [];
  for (const { series, labels } of seriesNamed(CALLS, held, counted)) {
    const { role = "", result = "", tool = "" } = labels;
    const [count, rows] = [counted.get(series) ?? 0, held.get(series) ?? 0];
    const left = leftOf(role, result);
    const group = seriesOf(CALLS, { role, tool: "*", result });
    const total = totals.get(group) ?? { counted: 0, held: 0, left };
    totals.set(group, { ...total, counted: total.counted + count, held: total.held + rows });
    if (tool === OTHER) continue;
    const tooMany = count > rows + left;
    const tooFew = BUILT_IN.has(tool) && count < rows;
    if (tooMany || tooFew) problems.push(...difference(series, count, rows));
  }
  for (const [group, total] of totals) {
    const gone = total.counted - total.held;
    if (gone < 0 || gone > total.left)
      problems.push(...difference(group, total.counted, total.held));
  }
  return problems;
}

function difference(series: string, counted: number, held: number): string[] {
  return counted === held ? [] : [`${series}: ${counted} counted, ${held} in the archive`];
}

function missingEntries(held: Series, counted: Series): Map<string, number> {
  return new Map(
    seriesNamed(ENTRIES, held, counted).map(({ series }) => [
      series,
      (counted.get(series) ?? 0) - (held.get(series) ?? 0),
    ]),
  );
}

function retiredByRole(sessions: readonly HeldSessions[]): Map<string, number> {
  const left = new Map<string, number>();
  for (const { role, retired, entries } of sessions) {
    if (retired === 1) add(left, role, Number(entries));
  }
  return left;
}

function seriesNamed(metric: string, ...from: readonly Series[]) {
  const names = new Set(from.flatMap((series) => [...series.keys()]));
  return [...names]
    .filter((series) => series.startsWith(`${metric}{`))
    .map((series) => ({
      series,
      labels: JSON.parse(series.slice(metric.length)) as Record<string, string>,
    }));
}

type Counted = typeof ENTRIES | typeof CALLS | typeof SESSIONS;

function seriesOf(metric: Counted, labels: Readonly<Record<string, string>>): string {
  return `${metric}${labelsText(metric, labels)}`;
}

/** A count under labels in another order would be a series twice. */
function namedSeries(metric: string, labels: string): string | null {
  if (metric !== ENTRIES && metric !== CALLS && metric !== SESSIONS) return null;
  const series = seriesOf(metric, JSON.parse(labels));
  return series === `${metric}${labels}` ? series : null;
}

function add(to: Map<string, number>, series: string, by: number): void {
  to.set(series, (to.get(series) ?? 0) + by);
}
