import { describe, expect, test } from "vitest";
import { RECENT_MS, RecentSessions } from "../../src/edge/recent-sessions.ts";

describe("what an isolate knows of sessions", () => {
  test("is what it heard in the last minute, and how many of them are live", () => {
    const recent = new RecentSessions();
    recent.note("a", "one", true, 0);
    recent.note("a", "two", true, 1);
    recent.note("a", "one", false, 2);
    recent.note("b", "other", true, 2);
    expect(recent.of("a", 3)).toEqual({ ids: ["two", "one"], live: 1 });
    recent.forget("a", "two");
    expect(recent.of("a", 3)).toEqual({ ids: ["one"], live: 0 });
    expect(recent.of("a", 2 + RECENT_MS)).toEqual({ ids: [], live: 0 });
  });

  test("is forgotten of those that never come again, whoever comes next", () => {
    const recent = new RecentSessions();
    for (let n = 0; n < 500; n++) recent.note(`p${n}`, "s", true, n);
    expect(recent.size).toBe(500);
    recent.note("next", "s", true, 249 + RECENT_MS);
    expect(recent.size).toBe(251);
    recent.note("next", "t", true, 10 * RECENT_MS);
    expect(recent.size).toBe(1);
  });
});
