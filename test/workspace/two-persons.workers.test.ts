import { describe, expect, test } from "vitest";
import type { Decision } from "../../src/policy/errors.ts";
import { approvePlan, type PlanRow, planDetail, planRow } from "../../src/workspace/plans.ts";
import { newRoot, planOf, savePlan } from "../support/gateway.ts";
import { captureLogs, DAY, inWorkspace, START, useStoppedClock } from "../support/objects.ts";

useStoppedClock();
captureLogs();

const RULE = { required: 2, lifeMs: 7 * DAY };
const PINS = { github_create_issue: "a".repeat(64) };

type Said = { by: string; at?: number; pins?: Record<string, string>; required?: number };

/** Saves a plan and has operators approve it, in this order; the state after each. */
async function approvals(...said: Said[]): Promise<PlanRow[]> {
  const root = newRoot();
  const tools = ["write_file", "github_create_issue"];
  const hash = await savePlan(root, planOf({ scope: { paths: ["src/**"], tools } }));
  return inWorkspace(root, (sql) =>
    said.map(({ by, at = START, pins = PINS, required = 2 }) => {
      const rule = { ...RULE, required };
      const decided: Decision<PlanRow> = approvePlan(sql, hash, by, null, pins, at, rule);
      if (!decided.ok) throw new Error(decided.refusal.message);
      const row = planRow(sql, hash);
      if (row === null) throw new Error("the plan is gone");
      const listed = planDetail(sql, row, root, at, rule).approvals;
      expect(listed.some((approval) => approval.by === by)).toBe(true);
      return row;
    }),
  );
}

const statuses = async (...said: Said[]) => (await approvals(...said)).map(({ status }) => status);

describe("a plan that needs two operators", () => {
  test("stays proposed with one, and is approved with the second", async () => {
    expect(await statuses({ by: "key:a" }, { by: "key:b" })).toEqual(["proposed", "approved"]);
  });

  test("is not approved by one who says it twice", async () => {
    expect(await statuses({ by: "key:a" }, { by: "key:a" })).toEqual(["proposed", "proposed"]);
  });

  test("is not approved by a word that has run out", async () => {
    const late = { by: "key:b", at: START + 7 * DAY };
    expect(await statuses({ by: "key:a" }, late)).toEqual(["proposed", "proposed"]);
  });

  test("is not approved by words on different definitions of its tools", async () => {
    const other = { by: "key:b", pins: { github_create_issue: "b".repeat(64) } };
    expect(await statuses({ by: "key:a" }, other)).toEqual(["proposed", "proposed"]);
  });

  test("ends when the older of the two words does", async () => {
    const rows = await approvals({ by: "key:a" }, { by: "key:b", at: START + 2 * DAY });
    expect(rows[1]?.approval_expires_at).toBe(new Date(START + 7 * DAY).toISOString());
  });

  test("that ran out needs two again", async () => {
    const again = START + 8 * DAY;
    const rows = await approvals(
      { by: "key:a" },
      { by: "key:b" },
      { by: "key:a", at: again },
      { by: "key:b", at: again },
    );
    const ends = rows.map(({ approval_expires_at }) => approval_expires_at);
    expect(ends[2]).toBe(new Date(START + 7 * DAY).toISOString());
    expect(ends[3]).toBe(new Date(again + 7 * DAY).toISOString());
  });
});

test("without the rule one word is enough", async () => {
  expect(await statuses({ by: "key:a", required: 1 })).toEqual(["approved"]);
});
