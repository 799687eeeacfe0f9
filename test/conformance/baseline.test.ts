import { expect, it } from "vitest";
import { type Baseline, surprisesIn } from "./baseline.ts";
import type { Outcome } from "./suite.ts";

const BASELINE: Baseline = [
  { scenario: "caching", specVersion: "2026-07-28", checks: ["a", "b"], reason: "a test" },
];

const outcome = (ids: string[], specVersion: Outcome["specVersion"] = "2026-07-28"): Outcome => ({
  scenario: "caching",
  specVersion,
  passed: ids.length === 0,
  failedChecks: ids.map((id) => ({ id, status: "FAILURE", message: "no" })),
});

it("lets a check fail that the baseline lists", () => {
  expect(surprisesIn(outcome(["a", "b"]), BASELINE)).toEqual([]);
});

it("reports a failure that the baseline does not list, at this revision or at all", () => {
  expect(surprisesIn(outcome(["a", "b", "c"]), BASELINE)).toEqual(["FAILURE c: no"]);
  expect(surprisesIn(outcome(["a"], "2025-11-25"), BASELINE)).toEqual(["FAILURE a: no"]);
});

it("reports a listed check that no longer fails", () => {
  expect(surprisesIn(outcome(["a"]), BASELINE)).toEqual([
    "STALE b: the baseline lists it, and it does not fail",
  ]);
});
