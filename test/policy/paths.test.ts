import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Decision } from "../../src/policy/errors.ts";
import {
  checkPath,
  checkPrefix,
  checkWorkspaceRoot,
  MAX_PATH_BYTES,
} from "../../src/policy/paths.ts";

function codeOf(decision: Decision<string>): string {
  return decision.ok ? "ok" : decision.refusal.code;
}

/** What hostile callers try, each with what it must come to. */
const ESCAPES = [
  "..",
  "../etc/passwd",
  "src/../../etc",
  "src/..",
  "/etc/passwd",
  "//etc",
  "/",
  "\\",
  "src\\..\\x",
  "..\\x",
  "C:",
  "c:/windows",
  "C:secret",
  "%2e%2e/x",
  "src/%2E%2E/x",
  "src%2fx",
  "src%2Fx",
  "src%5cx",
  "src%5Cx",
  "src/\0/../x",
];

const MALFORMED = [
  "",
  ".",
  "./src",
  "src/.",
  "src/./x",
  "src//x",
  "src/",
  "src/a\0.ts",
  "src/a\nb",
  "src/a\u007fb",
  "src/a\u0085b",
  "src/a\u200bb",
  "src/\u202ets.exe",
  "src/a\u2066b",
  "src/\ufeffa",
  "src/a\u00adb",
  "src/a\u2028b",
  "src/a\u2029b",
  "src/a\u{e0041}b",
  "src/\ud800",
  "src/\udc00x",
  "src/e\u0301.ts",
  "src/\u212b",
  "a".repeat(MAX_PATH_BYTES + 1),
  "é".repeat(MAX_PATH_BYTES / 2 + 1),
];

const HONEST = [
  "src/main.ts",
  ".env",
  ".github/workflows/ci.yml",
  "a..b/c...d",
  "...",
  "src/é.ts",
  "src/日本語.md",
  "src/👍.md",
  "a b/c",
  "100%/x",
  "%25/x",
  "x/C:/y",
  "__proto__/constructor",
  "SRC/Main.ts",
  "a".repeat(MAX_PATH_BYTES),
];

describe("a path inside a workspace", () => {
  test.each(ESCAPES)("that leaves it is PATH_ESCAPE: %j", (path) => {
    expect(codeOf(checkPath(path))).toBe("PATH_ESCAPE");
  });

  test.each(MALFORMED)("that is malformed is INVALID_ARGUMENT: %j", (path) => {
    expect(codeOf(checkPath(path))).toBe("INVALID_ARGUMENT");
  });

  test.each(HONEST)("is taken byte for byte: %j", (path) => {
    expect(checkPath(path)).toEqual({ ok: true, value: path });
  });

  test("is either refused, or has none of the features of an escape", () => {
    const hostile = fc.constantFrom(
      "..",
      ".",
      "/",
      "\\",
      "%2e",
      "%2F",
      "%5c",
      "C:",
      "\0",
      "\u200b",
      "a",
      "é",
      "e\u0301",
    );
    const anything = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.array(hostile, { maxLength: 6 }).map((parts) => parts.join("")),
    );
    let accepted = 0;
    fc.assert(
      fc.property(anything, (path) => {
        if (!checkPath(path).ok) return;
        accepted++;
        const segments = path.split("/");
        expect(segments.some((segment) => ["", ".", ".."].includes(segment))).toBe(false);
        expect(path).not.toMatch(/\\|%2e|%2f|%5c|^[A-Za-z]:/i);
        expect(path).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u);
        expect(path).toBe(path.normalize("NFC"));
        expect(Buffer.byteLength(path)).toBeLessThanOrEqual(MAX_PATH_BYTES);
        // What any POSIX resolver makes of it stays inside.
        expect(
          new URL(path.split("/").map(encodeURIComponent).join("/"), "file:///root/").pathname,
        ).toMatch(/^\/root\/./);
      }),
      { numRuns: 3000 },
    );
    expect(accepted).toBeGreaterThan(200);
  });
});

describe("a prefix", () => {
  test.each(["", "src", "src/", "src/ap", ".git/"])(
    "may be empty or end in a slash: %j",
    (prefix) => {
      expect(checkPrefix(prefix)).toEqual({ ok: true, value: prefix });
    },
  );

  test.each([
    ["../", "PATH_ESCAPE"],
    ["/", "PATH_ESCAPE"],
    ["/src/", "PATH_ESCAPE"],
    ["src\\", "PATH_ESCAPE"],
    ["src//", "INVALID_ARGUMENT"],
    ["./", "INVALID_ARGUMENT"],
    [`${"a".repeat(MAX_PATH_BYTES)}/`, "INVALID_ARGUMENT"],
  ])("is else held to the rules of a path: %j", (prefix, code) => {
    expect(codeOf(checkPrefix(prefix))).toBe(code);
  });
});

describe("a workspace root", () => {
  test.each(["/srv/app", "/a", "/srv/.hidden/app"])("is a POSIX absolute path: %j", (root) => {
    expect(checkWorkspaceRoot(root)).toEqual({ ok: true, value: root });
  });

  test.each([
    ["/srv/../etc", "PATH_ESCAPE"],
    ["/..", "PATH_ESCAPE"],
    ["/srv\\app", "PATH_ESCAPE"],
    ["/C:/app", "PATH_ESCAPE"],
    ["C:\\app", "PATH_ESCAPE"],
    ["C:/app", "PATH_ESCAPE"],
    ["/srv%2f..", "PATH_ESCAPE"],
    ["/", "INVALID_ARGUMENT"],
    ["", "INVALID_ARGUMENT"],
    ["srv/app", "INVALID_ARGUMENT"],
    ["/srv/app/", "INVALID_ARGUMENT"],
    ["//srv/app", "INVALID_ARGUMENT"],
    ["/srv//app", "INVALID_ARGUMENT"],
    ["/srv/./app", "INVALID_ARGUMENT"],
    ["/srv/a\u200bpp", "INVALID_ARGUMENT"],
    ["/srv/e\u0301", "INVALID_ARGUMENT"],
    [`/${"a".repeat(MAX_PATH_BYTES)}`, "INVALID_ARGUMENT"],
  ])("is refused: %j as %s", (root, code) => {
    expect(codeOf(checkWorkspaceRoot(root))).toBe(code);
  });
});

test("a refusal does not repeat the path, which may hold anything", () => {
  const decision = checkPath("x/\u202e../y");
  expect(decision.ok ? "" : decision.refusal.message).not.toContain("\u202e");
});
