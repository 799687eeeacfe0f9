import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type CallArgs,
  compilePlan,
  decidePlannedCall,
  decideRead,
  decideUpstreamCall,
  describeEffectOutside,
  isForbiddenPath,
  type PlannedCall,
} from "../../src/policy/decide.ts";
import type { Decision } from "../../src/policy/errors.ts";
import { lintPlan } from "../../src/policy/lint.ts";
import { type Plan, parsePlan } from "../../src/policy/plan.ts";
import { APPROVED, NOW, SAMPLE_PLAN } from "./sample-plan.ts";

const SCOPE_TOOLS: Plan["scope"]["tools"] = [
  "write_file",
  { name: "github_create_issue", when: "args.repo == 'acme/api'" },
  { name: "github_create_issue", when: "args.repo == 'acme/web' && args.draft" },
];
const FORBIDDEN_TOOLS: Plan["scope"]["tools"] = [
  "delete_file",
  { name: "write_file", when: "args.path.endsWith('.lock')" },
  { name: "github_create_issue", when: "args.labels.exists(l, l == 'security')" },
];

const plan = compilePlan(
  parsePlan({
    ...SAMPLE_PLAN,
    scope: { paths: ["src/**", "docs/*.md"], tools: [...SCOPE_TOOLS, "delete_file"] },
    forbidden: { paths: ["src/secrets/**"], tools: FORBIDDEN_TOOLS },
  }),
);

function call(changes: Partial<PlannedCall>): Decision<unknown> {
  const path = changes.path === undefined ? "src/a.ts" : changes.path;
  return decidePlannedCall({
    plan,
    state: APPROVED,
    now: NOW,
    tool: "write_file",
    args: { path: path ?? "" },
    ...changes,
    path,
  });
}

const issue = (args: CallArgs) =>
  call({ tool: "github_create_issue", path: null, args: { labels: [], ...args } });

const codeOf = (decision: Decision<unknown>) => (decision.ok ? "ok" : decision.refusal.code);
const messageOf = (decision: Decision<unknown>) => (decision.ok ? "" : decision.refusal.message);

describe("a planned call", () => {
  test("within an approved plan is allowed, and names the approval", () => {
    expect(call({})).toEqual({
      ok: true,
      value: { approval: { by: "key:k1", at: "2026-06-01T00:00:00Z" } },
    });
  });

  test.each([
    ["proposed", "not approved yet"],
    ["revoked", "revoked"],
  ] as const)("under a %s plan is PLAN_NOT_APPROVED", (status, said) => {
    const decision = call({ state: { ...APPROVED, status } });
    expect(codeOf(decision)).toBe("PLAN_NOT_APPROVED");
    expect(messageOf(decision)).toContain(said);
  });

  test("under an approval that names nobody is PLAN_NOT_APPROVED", () => {
    expect(codeOf(call({ state: { ...APPROVED, approved_by: null } }))).toBe("PLAN_NOT_APPROVED");
    expect(codeOf(call({ state: { ...APPROVED, approved_at: null } }))).toBe("PLAN_NOT_APPROVED");
  });

  test("is PLAN_EXPIRED from the moment that the approval, or the plan, ends", () => {
    const approvalEnds = Date.parse("2026-06-08T00:00:00Z");
    expect(codeOf(call({ now: approvalEnds - 1 }))).toBe("ok");
    expect(codeOf(call({ now: approvalEnds }))).toBe("PLAN_EXPIRED");
    const state = { ...APPROVED, approval_expires_at: null };
    const planEnds = Date.parse("2027-01-01T00:00:00Z");
    expect(codeOf(call({ state, now: planEnds - 1 }))).toBe("ok");
    expect(messageOf(call({ state, now: planEnds }))).toContain("Have a new one saved");
  });

  test("to a tool that the plan does not name is PLAN_SCOPE_VIOLATION", () => {
    const decision = call({ tool: "github_delete_repo", path: null });
    expect(codeOf(decision)).toBe("PLAN_SCOPE_VIOLATION");
    expect(messageOf(decision)).toContain("github_delete_repo");
    for (const tool of ["Write_File", "write_file ", "constructor", "__proto__", ""]) {
      expect(codeOf(call({ tool }))).toBe("PLAN_SCOPE_VIOLATION");
    }
  });

  test.each([
    "lib/a.ts",
    "docs/a/b.md",
    "docs/a.txt",
    "Src/a.ts",
    "srcs/a.ts",
    "package.json",
    ".env",
  ])("to a path outside of scope is PLAN_SCOPE_VIOLATION: %s", (path) => {
    expect(codeOf(call({ path }))).toBe("PLAN_SCOPE_VIOLATION");
  });

  test.each(["src/.env", "src/a/.hidden/x", "docs/a.md", "src/é.ts"])(
    "reaches all of its scope: %s",
    (path) => {
      expect(codeOf(call({ path }))).toBe("ok");
    },
  );

  test.each([
    "src/secrets/key",
    "src/Secrets/key",
    "src/SECRETS/KEY",
    "src/ｓecrets/key",
    "src/secrets/.x",
  ])("to a forbidden path is PLAN_SCOPE_VIOLATION, in whatever letters: %s", (path) => {
    const decision = call({ path });
    expect(codeOf(decision)).toBe("PLAN_SCOPE_VIOLATION");
    expect(messageOf(decision)).toContain("forbids");
  });

  test("to a tool that is both in scope and forbidden is PLAN_SCOPE_VIOLATION", () => {
    const decision = call({ tool: "delete_file" });
    expect(codeOf(decision)).toBe("PLAN_SCOPE_VIOLATION");
    expect(messageOf(decision)).toContain("forbids delete_file");
  });

  test("that changes files but names none is PLAN_SCOPE_VIOLATION", () => {
    expect(codeOf(call({ path: null, args: { path: "src/a.ts" } }))).toBe("PLAN_SCOPE_VIOLATION");
  });

  test.each([
    ["src/../../etc/passwd", "PATH_ESCAPE"],
    ["src/..", "PATH_ESCAPE"],
    ["/src/a.ts", "PATH_ESCAPE"],
    ["src/%2e%2e/x", "PATH_ESCAPE"],
    ["src\\a.ts", "PATH_ESCAPE"],
    ["src//a.ts", "INVALID_ARGUMENT"],
    ["src/a\0.ts", "INVALID_ARGUMENT"],
    ["src/e\u0301.ts", "INVALID_ARGUMENT"],
    ["src/\u202ea.ts", "INVALID_ARGUMENT"],
  ])("with a path that is none is refused even where nobody checked before: %j", (path, code) => {
    expect(codeOf(call({ path }))).toBe(code);
  });

  test("is decided in the contract's order, the first that fails", () => {
    const bad = {
      path: { path: "../x", code: "PATH_ESCAPE" },
      state: { state: { ...APPROVED, status: "proposed" }, code: "PLAN_NOT_APPROVED" },
      now: { now: Date.parse("2030-01-01T00:00:00Z"), code: "PLAN_EXPIRED" },
      tool: { tool: "nothing_known", code: "PLAN_SCOPE_VIOLATION" },
    } as const;
    const order = ["path", "state", "now", "tool"] as const;
    fc.assert(
      fc.property(fc.subarray([...order]), (failing) => {
        const changes: Partial<PlannedCall> = Object.assign(
          {},
          ...failing.map((name) => bad[name]),
        );
        const [first] = order.filter((name) => failing.includes(name));
        expect(codeOf(call(changes))).toBe(first === undefined ? "ok" : bad[first].code);
      }),
    );
  });
});

describe("a condition of a planned call", () => {
  test("lets in what fits any of the tool's entries", () => {
    expect(codeOf(issue({ repo: "acme/api" }))).toBe("ok");
    expect(codeOf(issue({ repo: "acme/web", draft: true }))).toBe("ok");
    expect(codeOf(issue({ repo: "acme/web", draft: false }))).toBe("PLAN_SCOPE_VIOLATION");
    expect(codeOf(issue({ repo: "evil/api" }))).toBe("PLAN_SCOPE_VIOLATION");
  });

  test("that fails does not let in, and says which it was", () => {
    const decision = issue({});
    expect(codeOf(decision)).toBe("PLAN_SCOPE_VIOLATION");
    expect(messageOf(decision)).toContain("args.repo == 'acme/api'");
    expect(messageOf(decision)).toContain("cannot be evaluated");
  });

  test("under forbidden wins over one in scope, and forbids where it fails", () => {
    expect(codeOf(issue({ repo: "acme/api", labels: ["security"] }))).toBe("PLAN_SCOPE_VIOLATION");
    expect(codeOf(issue({ repo: "acme/api", labels: 5 }))).toBe("PLAN_SCOPE_VIOLATION");
    expect(codeOf(call({ path: "src/package.lock" }))).toBe("PLAN_SCOPE_VIOLATION");
    expect(codeOf(call({ args: {} }))).toBe("PLAN_SCOPE_VIOLATION");
  });

  test("does not narrow an entry without one", () => {
    const both = {
      ...SAMPLE_PLAN.scope,
      tools: [{ name: "write_file", when: "false" }, "write_file"],
    };
    expect(codeOf(call({ plan: compilePlan(parsePlan({ ...SAMPLE_PLAN, scope: both })) }))).toBe(
      "ok",
    );
  });
});

describe("a read", () => {
  test("needs no plan, and is not held to a plan's scope", () => {
    expect(decideRead(null, "src/secrets/key").ok).toBe(true);
    expect(decideRead(plan, "lib/far/away.ts").ok).toBe(true);
  });

  test("of what a bound plan forbids is PLAN_SCOPE_VIOLATION", () => {
    expect(codeOf(decideRead(plan, "src/secrets/key"))).toBe("PLAN_SCOPE_VIOLATION");
    expect(codeOf(decideRead(plan, "SRC/ſecrets/key"))).toBe("PLAN_SCOPE_VIOLATION");
    expect(isForbiddenPath(plan, "src/secret/key")).toBe(false);
  });
});

describe("an effect that was recorded", () => {
  test("lies within the plan where its tool and its path do", () => {
    expect(describeEffectOutside(plan, "write_file", "src/a.ts")).toBeNull();
    expect(describeEffectOutside(plan, "github_create_issue", null)).toBeNull();
  });

  test.each([
    ["write_file", "lib/a.ts", "not among the paths"],
    ["write_file", "src/SECRETS/a", "forbids src/SECRETS/a"],
    ["write_file", null, "names no path"],
    ["delete_file", "src/a.ts", "forbids delete_file"],
    ["other_tool", "src/a.ts", "does not name other_tool"],
  ])("else it is told why: %s on %s", (tool, path, said) => {
    expect(describeEffectOutside(plan, tool, path)).toContain(said);
  });
});

test("a plan that lint refuses does not compile by accident", () => {
  const bad = { ...SAMPLE_PLAN, scope: { paths: ["src/(a|**)"], tools: ["write_file"] } };
  expect(lintPlan(bad, NOW).ok).toBe(false);
  expect(() => compilePlan(parsePlan(bad))).toThrow("pattern");
});

describe("a call of an upstream tool", () => {
  const PIN = "a".repeat(64);
  const decided = (changes: {
    pins?: ReadonlyMap<string, string>;
    pin?: string;
    tool?: string;
    args?: CallArgs;
    state?: PlannedCall["state"];
  }) =>
    decideUpstreamCall({
      plan,
      state: APPROVED,
      now: NOW,
      tool: "github_create_issue",
      args: { repo: "acme/api", labels: [] },
      path: null,
      pin: PIN,
      pins: new Map([["github_create_issue", PIN]]),
      ...changes,
    });

  test("is allowed while the tool is the one that the plan was approved for", () => {
    expect(decided({})).toEqual({
      ok: true,
      value: { approval: { by: "key:k1", at: "2026-06-01T00:00:00Z" } },
    });
  });

  test("is refused when the tool is another, or was not there, at the approval", () => {
    const changed = decided({ pin: "b".repeat(64) });
    expect([codeOf(changed), messageOf(changed)]).toEqual([
      "PLAN_NOT_APPROVED",
      expect.stringContaining("changed since the plan was approved"),
    ]);
    expect(codeOf(decided({ pins: new Map() }))).toBe("PLAN_NOT_APPROVED");
    expect(codeOf(decided({ pins: new Map([["other", PIN]]) }))).toBe("PLAN_NOT_APPROVED");
  });

  test("is refused for state and scope before its pin is looked at", () => {
    const none = { pins: new Map() };
    expect(messageOf(decided({ ...none, state: { ...APPROVED, status: "revoked" } }))).toContain(
      "revoked",
    );
    expect(codeOf(decided({ ...none, args: { repo: "other" } }))).toBe("PLAN_SCOPE_VIOLATION");
    expect(codeOf(decided({ ...none, tool: "github_delete" }))).toBe("PLAN_SCOPE_VIOLATION");
  });
});
