import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compilePlan } from "../../src/policy/decide.ts";
import { lintPlan } from "../../src/policy/lint.ts";
import { MAX_PLAN_BYTES, parsePlan } from "../../src/policy/plan.ts";
import { NOW, planWith, SAMPLE_PLAN } from "./sample-plan.ts";

/** Findings as "CODE pointer". */
function lint(plan: unknown): string[] {
  return lintPlan(plan, NOW).findings.map(({ code, path }) => `${code} ${path}`);
}

const withScope = (pattern: string) => planWith(["scope", "paths", 1], pattern);

test("finds nothing in a plan that is as it should be", () => {
  expect(lintPlan(SAMPLE_PLAN, NOW)).toEqual({ ok: true, findings: [] });
});

test("finds nothing in a plan without the fields that may be left out", () => {
  const { forbidden, expires_at, ...plan } = SAMPLE_PLAN;
  expect(lint(plan)).toEqual([]);
});

describe("PLAN_MISSING_FIELD", () => {
  test.each([
    [["title"]],
    [["objective"]],
    [["scope"]],
    [["scope", "paths"]],
    [["scope", "tools"]],
    [["phases"]],
    [["phases", 0, "id"]],
    [["phases", 0, "objective"]],
    [["phases", 0, "paths"]],
    [["phases", 0, "verification"]],
    [["rollback"]],
  ])("names %j where it is not there", (path) => {
    expect(lint(planWith(path, undefined))).toEqual([`PLAN_MISSING_FIELD /${path.join("/")}`]);
  });

  test("names texts that are blank, and phases that are none", () => {
    expect(lint(planWith(["title"], "  "))).toEqual(["PLAN_MISSING_FIELD /title"]);
    expect(lint(planWith(["rollback"], ""))).toEqual(["PLAN_MISSING_FIELD /rollback"]);
    expect(lint(planWith(["phases"], []))).toEqual(["PLAN_MISSING_FIELD /phases"]);
  });

  test("names all at once", () => {
    expect(lint({})).toEqual(
      ["title", "objective", "scope", "phases", "rollback"].map(
        (field) => `PLAN_MISSING_FIELD /${field}`,
      ),
    );
  });
});

describe("PLAN_INVALID_STRUCTURE", () => {
  test.each([
    ["", null],
    ["", undefined],
    ["", "plan"],
    ["", []],
    ["/title", planWith(["title"], 5)],
    ["/title", planWith(["title"], null)],
    ["/scope/paths", planWith(["scope", "paths"], "src/**")],
    ["/scope/paths/0", planWith(["scope", "paths"], [5, "src/**"])],
    ["/scope/tools/0", planWith(["scope", "tools", 0], 5)],
    ["/scope/tools/0", planWith(["scope", "tools", 0], "github_*")],
    ["/scope/tools/1/unless", planWith(["scope", "tools", 1, "unless"], "true")],
    ["/owner", planWith(["owner"], "me")],
    ["/a~1b~0c", planWith(["a/b~c"], 1)],
    ["/phases/0/tools", planWith(["phases", 0, "tools"], [])],
    ["/forbidden/path", planWith(["forbidden", "path"], [])],
    ["/expires_at", planWith(["expires_at"], 1767225600)],
    ["/expires_at", planWith(["expires_at"], "2027-01-01")],
    ["/expires_at", planWith(["expires_at"], "2027-02-30T00:00:00Z")],
    ["/expires_at", planWith(["expires_at"], "2026-06-01T12:00:00Z")],
    ["/scope/paths", planWith(["scope", "paths"], Array(257).fill("src/**"))],
    ["/title", planWith(["title"], "x".repeat(201))],
    ["/title", planWith(["title"], "\ud800")],
    ["", planWith(["unknown"], "x".repeat(MAX_PLAN_BYTES))],
  ])("at %j", (pointer, plan) => {
    expect(lint(plan)).toEqual([`PLAN_INVALID_STRUCTURE ${pointer}`]);
  });

  test("names an own __proto__ at every depth, and no prototype is changed", () => {
    const text = JSON.stringify(SAMPLE_PLAN);
    for (const [field, pointer] of [
      ['"title"', "/__proto__"],
      ['"tools":["write', "/scope/__proto__"],
      ['"verification"', "/phases/0/__proto__"],
      ['"when"', "/scope/tools/1/__proto__"],
    ] as const) {
      const plan = JSON.parse(text.replace(field, `"__proto__":{"ok":true},${field}`));
      expect(lint(plan)).toEqual([`PLAN_INVALID_STRUCTURE ${pointer}`]);
    }
    expect(Object.hasOwn(Object.prototype, "ok")).toBe(false);
  });

  test("names nesting that would overflow a stack", () => {
    const deep = JSON.parse(`${"[".repeat(200_000)}${"]".repeat(200_000)}`);
    const report = lintPlan({ ...SAMPLE_PLAN, deep }, NOW);
    expect(report.findings.map(({ code, path }) => [code, path.startsWith("/deep/0")])).toEqual([
      ["PLAN_INVALID_STRUCTURE", true],
    ]);
  });
});

describe("PLAN_INVALID_PHASE_ID", () => {
  test.each(["", "phase_1", "PHASE 1", "PHASE-1", "PHASE_1\n", "ФАЗА"])("for the id %j", (id) => {
    expect(lint(planWith(["phases", 0, "id"], id))).toEqual(["PLAN_INVALID_PHASE_ID /phases/0/id"]);
  });

  test("for an id that is taken", () => {
    const [phase] = SAMPLE_PLAN.phases;
    const phases = [phase, { ...phase, id: "PHASE_2" }, phase];
    expect(lint(planWith(["phases"], phases))).toEqual(["PLAN_INVALID_PHASE_ID /phases/2/id"]);
  });
});

describe("a pattern", () => {
  test.each([
    "!src/**",
    "src/(a|b)",
    "src/{a,b}/**",
    "src\\api\\**",
    "src/a|b",
    "src/**.ts",
    "src/[!a]",
    "src/[a",
    "src//api",
    "src/",
    "./src/**",
    "",
    "src/e\u0301/**",
    "src/\u0000",
    "src/\u200b/**",
    "src/\u202e/**",
    "x".repeat(257),
  ])("that cannot be read as one meaning is PLAN_INVALID_PATH: %j", (pattern) => {
    expect(lint(withScope(pattern))).toEqual(["PLAN_INVALID_PATH /scope/paths/1"]);
    expect(lint(planWith(["forbidden", "paths", 0], pattern))).toEqual([
      "PLAN_INVALID_PATH /forbidden/paths/0",
    ]);
    expect(lint(planWith(["phases", 0, "paths", 0], pattern))).toEqual([
      "PLAN_INVALID_PATH /phases/0/paths/0",
    ]);
  });

  test.each(["../**", "src/../**", "/src/**", "/", "C:/**", "src/%2e%2e/**", "%2Fetc", "src%5C**"])(
    "that leaves the workspace is PLAN_PATH_ESCAPE: %j",
    (pattern) => {
      expect(lint(withScope(pattern))).toEqual(["PLAN_PATH_ESCAPE /scope/paths/1"]);
      expect(lint(planWith(["forbidden", "paths", 0], pattern))).toEqual([
        "PLAN_PATH_ESCAPE /forbidden/paths/0",
      ]);
    },
  );

  test("may have brackets, dots and other letters", () => {
    for (const pattern of [
      ".github/**",
      "app/[id]/**",
      "app/[...slug]/page.tsx",
      "src/été/*",
      "a+b/$c",
    ]) {
      expect(lint(withScope(pattern))).toEqual([]);
    }
  });

  test("under forbidden must still be one when it is folded", () => {
    expect(lint(planWith(["forbidden", "paths", 0], "src/（x）"))).toEqual([
      "PLAN_INVALID_PATH /forbidden/paths/0",
    ]);
    expect(lint(withScope("src/（x）"))).toEqual([]);
  });

  test("of a phase must lie within the scope", () => {
    const phase = (pattern: string) => planWith(["phases", 0, "paths"], ["src/a.ts", pattern]);
    for (const inside of ["src/**", "src/api/**", "src/api/*.ts", "docs/a.md"])
      expect(lint(phase(inside))).toEqual([]);
    for (const outside of ["docs/**", "**", "*/api/**", "srcs/**", "Src/a.ts", "docs/a.txt"]) {
      expect(lint(phase(outside))).toEqual(["PLAN_PATH_ESCAPE /phases/0/paths/1"]);
    }
  });
});

test("PLAN_INVALID_PATH for a condition that is no CEL, or none that is allowed", () => {
  for (const when of [
    "args.",
    "",
    "user == 'x'",
    "args.a.matches('(?=x)')",
    "args.l.map(x, x) == []",
  ]) {
    expect(lint(planWith(["scope", "tools", 1, "when"], when))).toEqual([
      "PLAN_INVALID_PATH /scope/tools/1/when",
    ]);
    const forbidden = [{ name: "delete_file", when }];
    expect(lint(planWith(["forbidden", "tools"], forbidden))).toEqual([
      "PLAN_INVALID_PATH /forbidden/tools/0/when",
    ]);
  }
});

describe("PLAN_EMPTY_SCOPE", () => {
  const withoutPaths = (tools: unknown) => {
    const [phase] = SAMPLE_PLAN.phases;
    return { ...SAMPLE_PLAN, scope: { paths: [], tools }, phases: [{ ...phase, paths: [] }] };
  };

  test("for a plan that allows nothing", () => {
    expect(lint(withoutPaths([]))).toEqual(["PLAN_EMPTY_SCOPE /scope"]);
  });

  test("for paths that no tool may change", () => {
    expect(lint(planWith(["scope", "tools"], []))).toEqual(["PLAN_EMPTY_SCOPE /scope/tools"]);
  });

  test.each(["write_file", "delete_file", { name: "write_file", when: "true" }])(
    "for %j without a path",
    (tool) => {
      expect(lint(withoutPaths(["github_create_issue", tool]))).toEqual([
        "PLAN_EMPTY_SCOPE /scope/paths",
      ]);
    },
  );

  test("but not for tools that change no file", () => {
    expect(lint(withoutPaths(["github_create_issue"]))).toEqual([]);
  });
});

describe("PLAN_NOT_ENFORCEABLE", () => {
  test.each([
    "TBD",
    "tbd.",
    "TODO",
    "n/a",
    "N/A",
    "none",
    "None.",
    "-",
    "…",
    "???",
    "fix it",
    " Fix  it! ",
    "ｔｂｄ",
  ])("for %j as a whole text", (text) => {
    for (const path of [
      ["objective"],
      ["rollback"],
      ["phases", 0, "objective"],
      ["phases", 0, "verification"],
    ]) {
      expect(lint(planWith(path, text))).toEqual([`PLAN_NOT_ENFORCEABLE /${path.join("/")}`]);
    }
  });

  test("but not where such a word is part of a sentence", () => {
    expect(lint(planWith(["objective"], "Remove every TODO marker from src/api."))).toEqual([
      "PLAN_AMBIGUOUS_LANGUAGE /objective",
    ]);
    expect(lint(planWith(["rollback"], "None of the data changes; revert the commit."))).toEqual(
      [],
    );
    expect(lint(planWith(["phases", 0, "verification"], "npm test"))).toEqual([]);
  });
});

describe("warnings", () => {
  test.each(["**", "*/x", "**/*.ts", "?rc/**", "[s]rc/**", "*.md"])(
    "PLAN_SCOPE_TOO_WIDE for %s",
    (pattern) => {
      const report = lintPlan(withScope(pattern), NOW);
      expect(report.ok).toBe(true);
      expect(report.findings).toMatchObject([
        { code: "PLAN_SCOPE_TOO_WIDE", severity: "warning", path: "/scope/paths/1" },
      ]);
    },
  );

  test("PLAN_SCOPE_TOO_WIDE is no concern of what is forbidden", () => {
    expect(lint(planWith(["forbidden", "paths"], ["**/*.pem"]))).toEqual([]);
  });

  test.each([
    "Maybe refactor it.",
    "Add tests, docs, etc.",
    "Clean up as needed.",
    "Retry if possible.",
    "It should probably work.",
    "Change various files.",
  ])("PLAN_AMBIGUOUS_LANGUAGE for %j", (text) => {
    const report = lintPlan(planWith(["phases", 0, "objective"], text), NOW);
    expect(report.ok).toBe(true);
    expect(report.findings).toMatchObject([
      { code: "PLAN_AMBIGUOUS_LANGUAGE", severity: "warning", path: "/phases/0/objective" },
    ]);
  });

  test("do not take names for words", () => {
    expect(
      lint(planWith(["objective"], "Mount /etc/hosts read-only, with etc-backup beside it.")),
    ).toEqual([]);
  });
});

describe("lint as a whole", () => {
  test("says what to do with each finding", () => {
    const broken = {
      ...SAMPLE_PLAN,
      owner: 1,
      objective: "TBD",
      scope: { paths: ["../x", "!y", "**"], tools: [5, { name: "a", when: "(" }] },
      phases: [{ id: "x", objective: "maybe", paths: ["docs/**"] }],
    };
    const { findings } = lintPlan(broken, NOW);
    expect(new Set(findings.map(({ code }) => code)).size).toBeGreaterThanOrEqual(8);
    for (const { message } of findings) expect(message).toMatch(/^.+[.?].* [A-Z].+\.$/);
  });

  test("puts errors before warnings, and ends a list that says the same over and over", () => {
    const plan = planWith(
      ["scope", "paths"],
      [...Array(150).fill("*"), ...Array(100).fill("!x"), "src/**"],
    );
    const { ok, findings } = lintPlan(plan, NOW);
    expect(ok).toBe(false);
    expect(findings).toHaveLength(100);
    expect(findings.every(({ severity }) => severity === "error")).toBe(true);
  });

  const mutated = fc
    .tuple(
      fc.constantFrom(
        ["title"],
        ["objective"],
        ["scope"],
        ["scope", "paths"],
        ["scope", "paths", 0],
        ["scope", "tools"],
        ["scope", "tools", 1],
        ["scope", "tools", 1, "when"],
        ["forbidden"],
        ["forbidden", "paths", 0],
        ["phases"],
        ["phases", 0],
        ["phases", 0, "id"],
        ["phases", 0, "paths"],
        ["rollback"],
        ["expires_at"],
      ),
      fc.oneof(fc.jsonValue(), fc.string({ unit: "binary" }), fc.array(fc.string())),
    )
    .map(([path, value]) => planWith(path, value));

  test("never throws, and what it lets in always compiles", () => {
    let passed = 0;
    fc.assert(
      fc.property(
        fc.oneof({ weight: 1, arbitrary: fc.jsonValue() }, { weight: 4, arbitrary: mutated }),
        (plan) => {
          const report = lintPlan(plan, NOW);
          expect(report.ok).toBe(report.findings.every(({ severity }) => severity === "warning"));
          if (!report.ok) return;
          passed++;
          expect(() => compilePlan(parsePlan(plan))).not.toThrow();
        },
      ),
      { numRuns: 2_000 },
    );
    expect(passed).toBeGreaterThan(50);
  });

  test("takes no exponential time for a plan full of hostile patterns", () => {
    const [phase] = SAMPLE_PLAN.phases;
    const plan = {
      ...SAMPLE_PLAN,
      scope: {
        paths: Array.from({ length: 256 }, (_, at) => `s/${"**/a/".repeat(48)}c${at}`),
        tools: ["write_file"],
      },
      phases: Array.from({ length: 80 }, (_, at) => ({
        ...phase,
        id: `P${at}`,
        paths: Array.from({ length: 8 }, (_, nth) => `s/${"**/a/".repeat(46)}d${at}-${nth}`),
      })),
    };
    const started = performance.now();
    expect(lintPlan(plan, NOW).ok).toBe(false);
    expect(performance.now() - started).toBeLessThan(3_000);
  });
});
