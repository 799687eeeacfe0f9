import { describe, expect, test } from "vitest";
import { type ArchiveSums, changeOf, heldSeries, sumProblems } from "./sums.ts";

const ROW = { role: "windsurf", result: "ok", event: "tool_call", tool: "read_file", n: 3 };
const SESSION = { era: "2025", role: "windsurf", live: 1, retired: 0, n: 1, entries: 3 };
const count = (metric: string, labels: object, value: number | string) => ({
  metric: `mcp_${metric}`,
  labels: JSON.stringify(labels),
  value,
});
const ENTRIES = count("audit_entries_total", { role: "windsurf", result: "ok" }, 3);
const CALLS = count("tool_calls_total", { role: "windsurf", tool: "read_file", result: "ok" }, 3);
const LIVE = count("session_active", { era: "2025" }, 1);

const RIGHT: ArchiveSums = { counts: [ENTRIES, CALLS, LIVE], records: [ROW], sessions: [SESSION] };

test("an archive that holds what it counted is in order, in either database's numbers", () => {
  expect(sumProblems(RIGHT)).toEqual([]);
  expect(sumProblems({ ...RIGHT, records: [{ ...ROW, n: "3" }] })).toEqual([]);
});

describe("a difference is named with its series and both numbers", () => {
  const wrong: [string, Partial<ArchiveSums>, string[]][] = [
    [
      "a record that was counted twice",
      { counts: [{ ...ENTRIES, value: 4 }, CALLS, LIVE] },
      ['mcp_audit_entries_total{"role":"windsurf","result":"ok"}: 4 counted, 3 in the archive'],
    ],
    [
      "a record that was not counted",
      { records: [ROW, { ...ROW, event: "plan_read", n: 1 }] },
      ['mcp_audit_entries_total{"role":"windsurf","result":"ok"}: 3 counted, 4 in the archive'],
    ],
    [
      "a built-in tool under the name of all others",
      {
        counts: [
          ENTRIES,
          LIVE,
          count("tool_calls_total", { role: "windsurf", tool: "other", result: "ok" }, 3),
        ],
      },
      [
        'mcp_tool_calls_total{"role":"windsurf","tool":"read_file","result":"ok"}: 0 counted, 3 in the archive',
      ],
    ],
    [
      "a call that was counted as a record alone",
      { counts: [ENTRIES, LIVE] },
      [
        'mcp_tool_calls_total{"role":"windsurf","tool":"read_file","result":"ok"}: 0 counted, 3 in the archive',
        'mcp_tool_calls_total{"role":"windsurf","tool":"*","result":"ok"}: 0 counted, 3 in the archive',
      ],
    ],
    [
      "a session that ended and is counted still",
      { sessions: [{ ...SESSION, live: 0 }] },
      ['mcp_session_active{"era":"2025"}: 1 counted, 0 in the archive'],
    ],
    [
      "labels in another order",
      {
        counts: [
          count("audit_entries_total", { result: "ok", role: "windsurf" }, 3),
          CALLS,
          LIVE,
          ENTRIES,
        ],
      },
      ['mcp_audit_entries_total{"result":"ok","role":"windsurf"}: there is no such series'],
    ],
  ];
  test.each(wrong)("%s", (_name, change, problems) => {
    expect(sumProblems({ ...RIGHT, ...change })).toEqual(problems);
  });
});

describe("records that left at the end of their retention", () => {
  const retired = { ...SESSION, live: 0, retired: 1 };
  const counts = [ENTRIES, CALLS];

  test("stay counted, as many as the session says", () => {
    expect(sumProblems({ counts, records: [], sessions: [retired] })).toEqual([]);
  });

  test("are not more and not fewer than it says, and are of its role", () => {
    const more = sumProblems({ counts, records: [], sessions: [{ ...retired, entries: 2 }] });
    expect(more).toEqual(["mcp_audit_entries_total{role windsurf}: 3 are gone, 2 were retired"]);
    expect(sumProblems({ ...RIGHT, counts, sessions: [retired] })).toEqual([
      "mcp_audit_entries_total{role windsurf}: 0 are gone, 3 were retired",
    ]);
    expect(
      sumProblems({ counts, records: [], sessions: [{ ...retired, role: "auditor" }] }),
    ).not.toEqual([]);
  });
});

test("an upstream's tool is other until it is approved, and is never counted more often than called", () => {
  const records = [{ ...ROW, tool: "up_echo" }];
  const calls = (tool: string, n: number) =>
    count("tool_calls_total", { role: "windsurf", tool, result: "ok" }, n);
  const of = (...counted: ReturnType<typeof calls>[]) =>
    sumProblems({ ...RIGHT, records, counts: [ENTRIES, LIVE, ...counted] });
  expect(of(calls("other", 1), calls("up_echo", 2))).toEqual([]);
  expect(of(calls("up_echo", 3))).toEqual([]);
  expect(of(calls("up_echo", 4))).toHaveLength(2);
  expect(of(calls("other", 2), calls("up_echo", 2))).toHaveLength(1);
});

test("what a test changed in the rows is taken off, and nothing beside it", () => {
  const cut = { ...RIGHT, records: [{ ...ROW, n: 2 }] };
  const tampered = changeOf(heldSeries(RIGHT), heldSeries(cut));
  expect(sumProblems(cut)).toHaveLength(3);
  expect(sumProblems(cut, tampered)).toEqual([]);
  expect(sumProblems({ ...RIGHT, records: [{ ...ROW, n: 1 }] }, tampered)).toHaveLength(3);
});
