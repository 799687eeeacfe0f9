import { describe, expect, test } from "vitest";
import {
  concerning,
  type KillScope,
  type KillSubject,
  killScopeSchema,
  newerOf,
  type SwitchSet,
  sameSwitches,
  stoppedBy,
} from "../../src/policy/kill-switch.ts";

function setOf(...scopes: KillScope[]): SwitchSet {
  return { version: 7, switches: scopes.map((scope, at) => ({ id: `switch-${at}`, scope })) };
}

const CALL: KillSubject = {
  tenant: "acme",
  role: "windsurf",
  session_id: "session-1",
  tool: "github_create_issue",
  upstream: "github",
};

describe("a kill switch", () => {
  test("with an empty scope stops everything", () => {
    expect(stoppedBy(setOf({}), CALL)?.id).toBe("switch-0");
    expect(
      stoppedBy(setOf({}), { ...CALL, session_id: null, tool: null, upstream: null })?.id,
    ).toBe("switch-0");
  });

  test.each<[KillScope, Partial<KillSubject>]>([
    [{ tenant: "acme" }, { tenant: "other" }],
    [{ role: "windsurf" }, { role: "auditor" }],
    [{ session_id: "session-1" }, { session_id: "session-2" }],
    [{ tool: "github_create_issue" }, { tool: null }],
    [{ upstream: "github" }, { upstream: "jira" }],
  ])("of %j stops what has that, and nothing else", (scope, other) => {
    expect(stoppedBy(setOf(scope), CALL)).not.toBeNull();
    expect(stoppedBy(setOf(scope), { ...CALL, ...other })).toBeNull();
  });

  test("of several parts stops only what has all of them", () => {
    const both = setOf({ tenant: "acme", tool: "github_create_issue" });
    expect(stoppedBy(both, CALL)).not.toBeNull();
    expect(stoppedBy(both, { ...CALL, tenant: "other" })).toBeNull();
    expect(stoppedBy(both, { ...CALL, tool: "read_file" })).toBeNull();
  });

  test("stands beside others: any one of them stops a call", () => {
    const set = setOf({ tenant: "other" }, { upstream: "github" }, { role: "auditor" });
    expect(stoppedBy(set, CALL)?.id).toBe("switch-1");
  });

  test.each([{ tenant: 1 }, { tenant: "" }, { role: "operator" }, { everything: true }])(
    "has no scope such as %j",
    (scope) => {
      expect(killScopeSchema.safeParse(scope).success).toBe(false);
    },
  );
});

describe("a set of switches", () => {
  test("is narrowed to what may concern a principal, in whichever of its roles", () => {
    const set = setOf({}, { tenant: "acme" }, { tenant: "other" }, { role: "auditor" });
    const narrowed = concerning(set, { tenant: "acme" });
    expect(narrowed.version).toBe(7);
    expect(narrowed.switches.map(({ id }) => id)).toEqual(["switch-0", "switch-1", "switch-3"]);
  });

  test("never gives way to an older one", () => {
    const older = { ...setOf(), version: 6 };
    const newer = { ...setOf({}), version: 8 };
    expect(newerOf(setOf({}), older).version).toBe(7);
    expect(newerOf(setOf({}), newer).version).toBe(8);
  });

  test("is the same as one with the same switches, whatever the version", () => {
    expect(sameSwitches(setOf({}), { ...setOf({}), version: 9 })).toBe(true);
    expect(sameSwitches(setOf({}), setOf())).toBe(false);
  });
});
