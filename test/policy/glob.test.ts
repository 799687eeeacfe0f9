import fc from "fast-check";
import picomatch from "picomatch/posix";
import { describe, expect, test } from "vitest";
import {
  compileForbidden,
  compileGlobs,
  fold,
  foldedProblem,
  MAX_PATTERN_BYTES,
  MAX_PATTERNS,
  matchesAnyRoot,
} from "../../src/policy/glob.ts";
import { parseGlob } from "../../src/policy/glob-syntax.ts";
import { MAX_PATH_BYTES } from "../../src/policy/paths.ts";

/** The contract's options: what a glob means is what this library makes of it. */
const OPTIONS = { dot: true, nonegate: true, noextglob: true, nobrace: true, windows: false };

const matches = (pattern: string, path: string) => compileGlobs([pattern])(path);

const patternPart = fc.constantFrom(
  ..."a b . - $ + é ! @ , ^ ~ # ' = : ; & ` % ab * * ? [ab] [^a] [a-c] [a.] [b-] [id] []a] [z-a]".split(
    " ",
  ),
);
const patternSegment = fc.oneof(
  { weight: 1, arbitrary: fc.constant("**") },
  {
    weight: 3,
    arbitrary: fc.array(patternPart, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("")),
  },
);
const patternText = fc
  .array(patternSegment, { minLength: 1, maxLength: 4 })
  .map((segments) => segments.join("/"));

const pathSegment = fc
  .array(fc.constantFrom(..."a b c . - $ + é ! * ^ ab [ab] [id]".split(" ")), {
    minLength: 1,
    maxLength: 4,
  })
  .map((parts) => parts.join(""))
  .filter((segment) => segment !== "." && segment !== "..");
const pathText = fc
  .array(pathSegment, { minLength: 1, maxLength: 4 })
  .map((segments) => segments.join("/"));

/** Paths that a pattern is likely to match: each wildcard filled in. */
function near(pattern: string, fill: readonly string[]): string {
  let at = 0;
  const next = () => fill[at++ % fill.length] ?? "a";
  return pattern
    .replace(/\*\*/g, next)
    .replace(/\[\^?[^\]]*\]/g, (set) => (next().length % 2 === 0 ? set : "a"))
    .replace(/\*/g, next)
    .replace(/\?/g, "b")
    .split("/")
    .filter((segment) => segment !== "" && segment !== "." && segment !== "..")
    .join("/");
}

/**
 * Where picomatch has accidents that are not kept: in patterns without a slash a doubled "$", "^"
 * or "+" breaks its expression, and `*.*` alone (not `src/*.*`) wants something after the dot.
 */
function isAccident(pattern: string, path: string): boolean {
  return (!pattern.includes("/") && /[$^+]{2}/.test(pattern)) || /\.(?:\/|$)/.test(path);
}

describe("a glob in scope", () => {
  test("means what picomatch makes of it", () => {
    let matched = 0;
    const fill = fc.array(fc.constantFrom("", "a", "ab", "a/b", ".x"), {
      minLength: 1,
      maxLength: 3,
    });
    fc.assert(
      fc.property(patternText, pathText, fill, (pattern, random, filled) => {
        if (!parseGlob(pattern).ok) return;
        const library = picomatch(pattern, OPTIONS);
        const own = compileGlobs([pattern]);
        for (const path of [random, near(pattern, filled), pattern]) {
          if (path === "" || isAccident(pattern, path)) continue;
          const expected = library(path);
          if (expected) matched++;
          expect(own(path), `${pattern} on ${path}`).toBe(expected);
        }
      }),
      { numRuns: 10_000 },
    );
    expect(matched).toBeGreaterThan(2_500);
  });

  test.each([
    ["src/**", "src/a/b.ts", true],
    ["src/**", "src/.env", true],
    ["src/**", "src", true],
    ["src/**", "srcs/a", false],
    ["src/**", "lib/src/a", false],
    ["src/*", "src/a/b", false],
    ["src/*.ts", "src/a.ts", true],
    ["**/*.ts", "a.ts", true],
    ["**/*.ts", "x/y/a.ts", true],
    ["src/**/test/**", "src/test/a", true],
    ["src/*/**", "src/a", false],
    ["app/[id]/page.tsx", "app/[id]/page.tsx", true],
    ["app/[id]/page.tsx", "app/i/page.tsx", true],
    ["src/?.ts", "src/ab.ts", false],
    ["SRC/**", "src/a", false],
    ["src/a", "src/A", false],
    ["a+b$c", "a+b$c", true],
    ["a.c", "abc", false],
  ])("%s on %s is %s", (pattern, path, expected) => {
    expect(matches(pattern, path)).toBe(expected);
  });

  test("matches where any pattern does, and nothing without patterns", () => {
    const inScope = compileGlobs(["src/**", "docs/*.md"]);
    expect(["src/a", "docs/a.md", "docs/a/b.md"].map(inScope)).toEqual([true, true, false]);
    expect(compileGlobs([])("src/a")).toBe(false);
  });
});

describe("a pattern", () => {
  test.each([
    ["!src/**", "syntax"],
    ["src/(a)", "syntax"],
    ["src/@(a|b)", "syntax"],
    ["src/{a,b}", "syntax"],
    ["src/a}", "syntax"],
    ["src\\a", "syntax"],
    ["src/**|x", "syntax"],
    ['src/"a"', "syntax"],
    ["src/**.ts", "syntax"],
    ["src/***", "syntax"],
    ["src/[ab", "syntax"],
    ["src/ab]", "syntax"],
    ["src/[]", "syntax"],
    ["src/[!a]", "syntax"],
    ["src/[z-a]", "syntax"],
    ["src/[a]+", "syntax"],
    ["src/[[:alpha:]]", "syntax"],
    ["src/[a/b]", "syntax"],
    ["src//a", "syntax"],
    ["src/", "syntax"],
    ["./src", "syntax"],
    ["", "syntax"],
    ["src/e\u0301", "syntax"],
    ["src/a\0", "syntax"],
    ["src/\u200b*", "syntax"],
    ["src/\u202e*", "syntax"],
    ["a".repeat(MAX_PATTERN_BYTES + 1), "syntax"],
    ["../src/**", "escape"],
    ["src/../**", "escape"],
    ["src/**/..", "escape"],
    ["/src/**", "escape"],
    ["C:/**", "escape"],
    ["src/%2e%2e/**", "escape"],
    ["src%2F**", "escape"],
    ["src%5c**", "escape"],
  ])("is refused: %j as %s", (pattern, kind) => {
    const parsed = parseGlob(pattern);
    expect(parsed.ok ? "accepted" : parsed.kind).toBe(kind);
    expect(() => compileGlobs([pattern])).toThrow();
  });

  test("may be as long, and as many, as the limits say", () => {
    const longest = "a".repeat(MAX_PATTERN_BYTES);
    expect(matches(longest, longest)).toBe(true);
    expect(compileGlobs(Array(MAX_PATTERNS).fill("src/**"))("src/a")).toBe(true);
    expect(() => compileGlobs(Array(MAX_PATTERNS + 1).fill("src/**"))).toThrow("patterns");
  });

  test.each([
    ["*a*a*a*a*a*a*b", "a".repeat(MAX_PATH_BYTES)],
    [`${"*a".repeat(127)}b`, "a".repeat(MAX_PATH_BYTES)],
    [`${"?*".repeat(127)}b`, "a".repeat(MAX_PATH_BYTES)],
    [`${"**/a/".repeat(50)}b`, `${"a/".repeat(511)}a`],
    ["*a*a*/*a*a*/*a*a*/b", `${`${"a".repeat(300)}/`.repeat(3)}c`],
    [`${"[a-z]*".repeat(42)}B`, "a".repeat(MAX_PATH_BYTES)],
  ])("takes no exponential time: %s", (pattern, path) => {
    const match = compileGlobs([pattern]);
    const started = performance.now();
    expect(match(path)).toBe(false);
    // Some 3 ms here; picomatch's own expressions take seconds to ages.
    expect(performance.now() - started).toBeLessThan(500);
  });
});

describe("what is forbidden", () => {
  test.each([
    ["src/secrets/**", "SRC/Secrets/key"],
    ["src/secrets/**", "src/ｓｅｃｒｅｔｓ/key"],
    ["src/secrets/**", "src／secrets／key"],
    ["src/secrets/**", "src/𝐒𝐄𝐂𝐑𝐄𝐓𝐒/key"],
    ["src/secrets/**", "src/ſecretſ/key"],
    ["src/secrets/**", "src/se\u034fcrets/key"],
    ["src/secrets/**", "src/secrets\ufe0f/key"],
    ["src/office/**", "src/oﬃce/x"],
    ["src/strasse/**", "src/Straße/x"],
    ["src/Straße/**", "SRC/STRASSE/x"],
    ["src/strasse/**", "src/STRAẞE/x"],
    ["src/kelvin/**", "src/\u212aelvin/x".normalize("NFC")],
    ["src/SECRETS/**", "src/secrets/key"],
    ["**/.env", "a/.ENV"],
    ["**/.env", ".env"],
    ["Ａ/**", "a/x"],
    ["src/*/key", "SRC/\u3164/key"],
    ["src/**", "SRC/x/\u2025"],
  ])("%s covers %s", (pattern, path) => {
    expect(compileForbidden([pattern])(path)).toBe(true);
  });

  test("does not spread to other names", () => {
    const isForbidden = compileForbidden(["src/secrets/**", "**/*.pem"]);
    expect(
      ["src/secret/x", "src/api/x", "src/secretsx/y", "a.pem.txt"].filter(isForbidden),
    ).toEqual([]);
    expect(compileForbidden([])("src/a")).toBe(false);
  });

  test("matches any case variant of a path that it matches", () => {
    const flips = fc.array(fc.boolean(), { minLength: 20, maxLength: 20 });
    const variant = fc.tuple(pathText, flips).map(([path, upper]) => ({
      path,
      other: Array.from(path, (char, at) => (upper[at % 20] ? char.toUpperCase() : char)).join(""),
    }));
    let covered = 0;
    fc.assert(
      fc.property(patternText, variant, (pattern, { path, other }) => {
        // A class of a range can lose its order when it is folded; such a pattern is none.
        if (!parseGlob(pattern).ok || foldedProblem(pattern) !== null) return;
        const isForbidden = compileForbidden([pattern]);
        if (compileGlobs([pattern])(path)) {
          if (other !== path) covered++;
          expect(isForbidden(path)).toBe(true);
          expect(isForbidden(other), `${pattern} on ${other}`).toBe(true);
        }
      }),
      { numRuns: 5_000 },
    );
    expect(covered).toBeGreaterThan(300);
  });

  test("folds every character, and its case variants, to one form", () => {
    const unstable: string[] = [];
    for (let code = 0x20; code <= 0x10ffff; code++) {
      if (code >= 0xd800 && code <= 0xdfff) continue;
      const text = `a${String.fromCodePoint(code)}b`;
      const folded = fold(text);
      const variants = [folded, text.toUpperCase(), text.toLowerCase()];
      if (variants.some((variant) => fold(variant) !== folded)) unstable.push(code.toString(16));
    }
    expect(unstable).toEqual([]);
  }, 30_000);

  test("covers a path whose folded form outgrows every path", () => {
    const bloated = "\ufdfa".repeat(MAX_PATH_BYTES / 3);
    expect(fold(bloated).length).toBeGreaterThan(MAX_PATH_BYTES);
    expect(compileForbidden(["x"])(bloated)).toBe(true);
  });

  test("cannot be given in characters that turn into other syntax when they are folded", () => {
    expect(foldedProblem("src/（a）")).toContain("look-alike");
    expect(foldedProblem("src/‥/x")).toContain("look-alike");
    expect(foldedProblem("src/Été/**")).toBeNull();
    expect(() => compileForbidden(["src/（a）"])).toThrow();
  });
});

describe("the workspaces of a key", () => {
  test.each([
    ["/srv/**", "/srv/app", true],
    ["/srv/**", "/srv/team/app", true],
    ["/srv/*", "/srv/team/app", false],
    ["/srv/team-*", "/srv/team-a", true],
    ["/srv/app", "/srv/app", true],
    ["/srv/app", "/srv/app2", false],
    ["/SRV/**", "/srv/app", false],
    ["**", "/srv/app", true],
    ["/**", "/srv/app", true],
    ["srv/**", "/srv/app", false],
    ["/srv/{a,b}", "/srv/a", false],
    ["!/srv/x", "/srv/app", false],
    ["/srv/../**", "/srv/app", false],
    ["", "/srv/app", false],
  ])("%j on %s is %s", (glob, root, expected) => {
    expect(matchesAnyRoot([glob], root)).toBe(expected);
  });

  test("mean for absolute patterns what picomatch makes of them", () => {
    fc.assert(
      fc.property(patternText, pathText, (pattern, path) => {
        const glob = `/${pattern}`;
        const root = `/${path}`;
        if (!parseGlob(glob, "root").ok || isAccident(glob, root)) return;
        expect(matchesAnyRoot([glob], root), `${glob} on ${root}`).toBe(
          picomatch(glob, OPTIONS)(root),
        );
      }),
      { numRuns: 5_000 },
    );
  });

  test("narrow to nothing with an empty list, and are not widened by a bad pattern beside a good one", () => {
    expect(matchesAnyRoot([], "/srv/app")).toBe(false);
    expect(matchesAnyRoot(["/srv/(x", "/srv/app"], "/srv/app")).toBe(true);
    expect(matchesAnyRoot(["/srv/(x", "/srv/app"], "/srv/other")).toBe(false);
  });
});
