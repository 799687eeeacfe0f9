import fc from "fast-check";
import { expect, test } from "vitest";
import { globMatcher } from "../../src/policy/glob.ts";
import { globContains } from "../../src/policy/glob-containment.ts";
import { type Glob, parseGlob } from "../../src/policy/glob-syntax.ts";

function glob(text: string): Glob {
  const parsed = parseGlob(text);
  if (!parsed.ok) throw new Error(parsed.problem);
  return parsed.glob;
}

test.each([
  ["src/**", "src/api/**"],
  ["src/**", "src"],
  ["src/**", "src/**"],
  ["src/**", "src/*/x/**/*.ts"],
  ["src/**/*", "src/api/**"],
  ["**", "anything/at/**"],
  ["**/*.ts", "src/a.ts"],
  ["**/*.ts", "src/**/*.test.ts"],
  ["src/*", "src/a"],
  ["src/*", "src/[ab]x?"],
  ["src/*.ts", "src/a*.ts"],
  ["src/[a-c].ts", "src/b.ts"],
  ["src/?.ts", "src/a.ts"],
  ["*/api/**", "src/api/v1/*"],
  ["src/**/test/**", "src/a/b/test/c"],
  ["a*/**", "ab/x"],
])("%s contains %s", (outer, inner) => {
  expect(globContains(glob(outer), glob(inner))).toBe(true);
});

test.each([
  ["src/**", "docs/**"],
  ["src/**", "**"],
  ["src/**", "*/api/**"],
  ["src/**", "srcs/**"],
  ["src/**", "Src/a"],
  ["src/*", "src/**"],
  ["src/*", "src/a/b"],
  ["src/*.ts", "src/*"],
  ["src/*.ts", "src/a.tsx"],
  ["src/?.ts", "src/*.ts"],
  ["src/[ab].ts", "src/c.ts"],
  ["src/[ab].ts", "src/?.ts"],
  ["src/?", "src/[id]"],
  ["src/*/**", "src/*"],
  ["a*/**", "ab/**"],
  ["src/**/*", "src/**"],
  ["src/api", "src/api/**"],
])("%s does not contain %s", (outer, inner) => {
  expect(globContains(glob(outer), glob(inner))).toBe(false);
});

test("nothing that the inner glob matches lies outside an outer one that contains it", () => {
  const part = fc.constantFrom("a", "b", "*", "*", "?", "[ab]", "[^a]", "[.a]");
  const segment = fc.oneof(
    fc.constant("**"),
    fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("")),
  );
  const text = fc
    .array(segment, { minLength: 1, maxLength: 3 })
    .map((segments) => segments.join("/"))
    .filter((pattern) => parseGlob(pattern).ok);
  const path = fc
    .array(
      fc
        .array(fc.constantFrom("a", "b", "c", ".", "[ab]", "[.a]"), { minLength: 1, maxLength: 3 })
        .map((parts) => parts.join("")),
      { minLength: 1, maxLength: 4 },
    )
    .map((segments) => segments.join("/"));
  let tried = 0;
  fc.assert(
    fc.property(text, text, fc.array(path, { maxLength: 8 }), (outerText, innerText, paths) => {
      const [outer, inner] = [glob(outerText), glob(innerText)];
      if (!globContains(outer, inner)) return;
      const inOuter = globMatcher(outer);
      for (const each of [...paths, innerText].filter(globMatcher(inner))) {
        tried++;
        expect(inOuter(each), `${innerText} in ${outerText}: ${each}`).toBe(true);
      }
    }),
    { numRuns: 10_000 },
  );
  expect(tried).toBeGreaterThan(1_000);
});

test("takes no exponential time", () => {
  const outer = glob(`${"**/a/".repeat(48)}c`);
  const started = performance.now();
  expect(globContains(outer, glob(`${"**/a/".repeat(48)}d`))).toBe(false);
  expect(globContains(glob(`${"*a".repeat(120)}c`), glob(`${"*a".repeat(120)}d`))).toBe(false);
  expect(performance.now() - started).toBeLessThan(200);
});
