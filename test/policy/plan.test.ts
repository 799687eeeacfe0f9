import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type ApprovalState,
  effectiveStatus,
  parsePlan,
  parseTimestamp,
  planHash,
  planSchema,
} from "../../src/policy/plan.ts";
import { APPROVED, NOW, planWith, SAMPLE_PLAN } from "./sample-plan.ts";

describe("a plan's hash", () => {
  test("is the SHA-256 of the RFC 8785 form", () => {
    // Keys by UTF-16 units, shortest numbers, and only the escapes that JSON needs.
    const plan = { "\u20ac": 1.0, b: [1e21, 0.000001, -0], a: '\u0007\u00e9\n"' };
    const canonical = '{"a":"\\u0007é\\n\\"","b":[1e+21,0.000001,0],"€":1}';
    expect(planHash(plan)).toBe(createHash("sha256").update(canonical).digest("hex"));
    expect(planHash(plan)).toMatch(/^[0-9a-f]{64}$/);
  });

  test("does not depend on the order of keys", () => {
    const reversed = Object.fromEntries(Object.entries(SAMPLE_PLAN).reverse());
    expect(planHash(reversed)).toBe(planHash(SAMPLE_PLAN));
  });

  test("changes with any change of the plan", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (one, other) => {
        // -0 and 0 are one number in JSON.
        const same = JSON.stringify(sorted(one)) === JSON.stringify(sorted(other));
        expect(planHash(one) === planHash(other)).toBe(same);
      }),
    );
    const changes = [
      planWith(["title"], "Rate limiting "),
      planWith(["scope", "paths"], ["docs/*.md", "src/**"]),
      planWith(["scope", "tools", 1, "when"], "args.repo == 'acme/apj'"),
      planWith(["forbidden", "tools"], []),
      planWith(["phases", 0, "verification"], "npm test passes"),
      planWith(["rollback"], "Revert the merge commit.\u200b"),
      planWith(["expires_at"], "2027-01-01T00:00:00.0Z"),
      planWith(["unknown"], null),
      JSON.parse(JSON.stringify(SAMPLE_PLAN).replace('"title"', '"__proto__":1,"title"')),
    ];
    expect(new Set([SAMPLE_PLAN, ...changes].map(planHash)).size).toBe(changes.length + 1);
  });

  test("is refused for what has no RFC 8785 form", () => {
    expect(() => planHash(undefined)).toThrow();
    expect(() => planHash({ title: "\ud800" })).toThrow();
    expect(() => planHash({ n: Number.NaN })).toThrow();
  });
});

describe("a plan's shape", () => {
  test("is taken as it is", () => {
    expect(parsePlan(SAMPLE_PLAN)).toEqual(SAMPLE_PLAN);
    expect(planSchema.safeParse(planWith(["forbidden"], {})).success).toBe(true);
    expect(planSchema.safeParse(planWith(["forbidden"], undefined)).success).toBe(true);
  });

  test.each([
    ["an unknown field", planWith(["owner"], "me")],
    ["an unknown field in scope", planWith(["scope", "allow"], [])],
    ["an unknown field in a phase", planWith(["phases", 0, "tools"], [])],
    ["an unknown field in a tool", planWith(["scope", "tools", 1, "unless"], "true")],
    [
      "an own __proto__",
      JSON.parse(JSON.stringify(SAMPLE_PLAN).replace('"title"', '"__proto__":{},"title"')),
    ],
    ["a wildcard for tools", planWith(["scope", "tools"], ["github_*"])],
    ["a tool without a name", planWith(["scope", "tools"], [""])],
    ["null for a field that may be left out", planWith(["expires_at"], null)],
    ["more patterns than allowed", planWith(["scope", "paths"], Array(257).fill("src/**"))],
    ["more phases than allowed", planWith(["phases"], Array(101).fill(SAMPLE_PLAN.phases[0]))],
    ["a text of many pages", planWith(["objective"], "x".repeat(8 * 1024 + 1))],
  ])("has no room for %s", (_, plan) => {
    expect(planSchema.safeParse(plan).success).toBe(false);
    expect(() => parsePlan(plan)).toThrow();
  });
});

describe("where a plan stands", () => {
  const plan = parsePlan(SAMPLE_PLAN);
  const state = (changes: Partial<ApprovalState>): ApprovalState => ({ ...APPROVED, ...changes });
  const approvalEnds = Date.parse("2026-06-08T00:00:00Z");
  const planEnds = Date.parse("2027-01-01T00:00:00Z");

  test.each([
    ["approved until the approval ends", state({}), approvalEnds - 1, "approved"],
    ["expired at that very moment", state({}), approvalEnds, "expired"],
    [
      "expired when the plan itself ends",
      state({ approval_expires_at: null }),
      planEnds,
      "expired",
    ],
    [
      "approved as long as the plan, without an end of its own",
      state({ approval_expires_at: null }),
      planEnds - 1,
      "approved",
    ],
    [
      "proposed before the plan ends",
      state({ status: "proposed", approval_expires_at: null }),
      NOW,
      "proposed",
    ],
    [
      "expired when a proposed plan ends",
      state({ status: "proposed", approval_expires_at: null }),
      planEnds,
      "expired",
    ],
    ["revoked, whatever the clock says", state({ status: "revoked" }), planEnds, "revoked"],
    ["expired when its end cannot be read", state({ approval_expires_at: "soon" }), NOW, "expired"],
  ])("%s", (_, stored, now, expected) => {
    expect(effectiveStatus(stored, plan, now)).toBe(expected);
  });
});

describe("a time", () => {
  test.each([
    ["2027-01-01T00:00:00Z", Date.UTC(2027, 0, 1)],
    ["2027-01-01T01:00:00+01:00", Date.UTC(2027, 0, 1)],
    ["2027-01-01t00:00:00.250z", Date.UTC(2027, 0, 1, 0, 0, 0, 250)],
    ["2028-02-29T23:59:59-23:59", Date.parse("2028-02-29T23:59:59-23:59")],
  ])("of RFC 3339 is read: %s", (text, ms) => {
    expect(parseTimestamp(text)).toBe(ms);
  });

  test.each([
    "2027-01-01",
    "2027-01-01T00:00:00",
    "2027-01-01 00:00:00Z",
    "2027-01-01T00:00Z",
    "2027-02-29T00:00:00Z",
    "2027-04-31T00:00:00Z",
    "2027-13-01T00:00:00Z",
    "2027-00-10T00:00:00Z",
    "2027-01-00T00:00:00Z",
    "2027-01-01T24:00:00Z",
    "2027-01-01T00:60:00Z",
    "2027-01-01T00:00:60Z",
    "2027-01-01T00:00:00+24:00",
    "tomorrow",
    "1767225600",
    " 2027-01-01T00:00:00Z",
  ])("of another form is not: %s", (text) => {
    expect(parseTimestamp(text)).toBeNull();
  });
});

function sorted(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(sorted);
  // As pairs, for an object would move keys that look like numbers, and lose "__proto__".
  return {
    pairs: Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, sorted(inner)]),
  };
}
