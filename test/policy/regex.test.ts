import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseRegex, searchRegex } from "../../src/policy/regex.ts";

function search(pattern: string, text: string): boolean {
  const parsed = parseRegex(pattern);
  if (!parsed.ok) throw new Error(parsed.problem);
  return searchRegex(parsed.regex, text);
}

const { regex: regexText } = fc.letrec<{ regex: string; atom: string; piece: string }>((tie) => ({
  atom: fc.oneof(
    // Any deeper, and JavaScript's side of the comparison takes minutes now and then.
    { maxDepth: 2 },
    fc.constantFrom(..."a b . [ab] [^a] [a-c1] [\\d-] \\d \\W \\s \\S \\. ^ $ é 1".split(" ")),
    fc.tuple(fc.constantFrom("(", "(?:"), tie("regex")).map(([open, inner]) => `${open}${inner})`),
  ),
  piece: fc
    .tuple(tie("atom"), fc.constantFrom("", "", "*", "+", "?", "{2}", "{1,3}", "{0,}", "*?", "+?"))
    .map((parts) => parts.join("")),
  regex: fc
    .array(fc.array(tie("piece"), { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 2 })
    .map((options) => options.map((pieces) => pieces.join("")).join("|")),
}));

test("finds what JavaScript's own expressions find", () => {
  const text = fc.string({ unit: fc.constantFrom(..."abc1.é-👍", "\n"), maxLength: 5 });
  let found = 0;
  fc.assert(
    fc.property(regexText, fc.array(text, { minLength: 1, maxLength: 5 }), (pattern, texts) => {
      // Only RE2 can repeat an anchor.
      if (!parseRegex(pattern).ok || /[$^][*+?{]/.test(pattern)) return;
      const theirs = new RegExp(pattern, "u");
      for (const each of texts) {
        const expected = theirs.test(each);
        if (expected) found++;
        expect(search(pattern, each), `${pattern} on ${JSON.stringify(each)}`).toBe(expected);
      }
    }),
    { numRuns: 5_000 },
  );
  expect(found).toBeGreaterThan(1_000);
});

test.each([
  ["(a+)+$", "a"],
  ["(a|aa)+$", "a"],
  ["(a|a?)+c$", "a"],
  ["(.*a){12}$", "a"],
])("takes no exponential time: %s", (pattern, unit) => {
  const started = performance.now();
  expect(search(pattern, `${unit.repeat(20_000)}b`)).toBe(false);
  expect(performance.now() - started).toBeLessThan(1_000);
});

describe("an expression", () => {
  test.each([
    "(?i)a",
    "(?=a)b",
    "(?<n>a)",
    "a(?!b)",
    "\\bword",
    "\\1",
    "\\p{L}",
    "[[:alpha:]]",
    "a**",
    "a+*",
    "*a",
    "(a",
    "a)",
    "[a",
    "[b-a]",
    "[\\d-z]",
    "a{2,1}",
    "a{1001}",
    "{",
    "a{x}",
    "\\",
    "(a{1000}){1000}",
    "((a{0}){1000}){1000}",
    `(${"a{100}".repeat(100)}){100}`,
  ])("is refused: %s", (pattern) => {
    expect(parseRegex(pattern).ok).toBe(false);
  });

  test("counts characters, not UTF-16 units", () => {
    expect(search("^.$", "👍")).toBe(true);
    expect(search("^[👍]$", "👍")).toBe(true);
    expect(search("^..$", "👍")).toBe(false);
  });

  test("is anchored only where it says so", () => {
    expect(search("b", "abc")).toBe(true);
    expect(search("^b", "abc")).toBe(false);
    expect(search("b$", "abc")).toBe(false);
    expect(search("^$", "")).toBe(true);
    expect(search("^release/[0-9]+(\\.[0-9]+)*$", "release/1.20.3")).toBe(true);
    expect(search("^a$", "a\n")).toBe(false);
  });
});
