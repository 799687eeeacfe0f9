import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { matchesTemplate } from "../../src/upstream/uri-template.ts";

describe("a URI template", () => {
  it.each([
    ["a://b", "a://b", true],
    ["a://b", "a://bc", false],
    ["a://{id}", "a://x", true],
    ["a://{id}", "a://x/y", false],
    ["a://{id}", "b://x", false],
    ["a://{id}/z", "a://x/z", true],
    ["a://{id}/z", "a://x/y/z", false],
    ["a://{+path}", "a://x/y/z", true],
    ["a://{owner}/{repo}/{+path}", "a://o/r/p/q", true],
    ["a://{owner}/{repo}", "a://o", false],
    ["a://b{?q}", "a://b?q=1", true],
    ["a://b{/more}", "a://b/x", true],
    ["a://{x}.{y}", "a://1.2.3", true],
    ["{+all}", "", true],
    ["a://{", "a://{", true],
  ])("%s stands for %s: %s", (template, uri, matches) => {
    expect(matchesTemplate(template, uri)).toBe(matches);
  });

  it("stands for what it is filled with", () => {
    const text = fc.stringMatching(/^[a-z0-9%._-]{0,8}$/);
    const literal = fc.stringMatching(/^[a-z:/]{0,5}$/);
    fc.assert(
      fc.property(fc.array(fc.tuple(literal, text), { maxLength: 5 }), literal, (parts, end) => {
        const template = parts.map(([before]) => `${before}{x}`).join("") + end;
        const uri = parts.map(([before, value]) => before + value).join("") + end;
        expect(matchesTemplate(template, uri)).toBe(true);
        expect(matchesTemplate(`s${template}`, `t${uri}`)).toBe(false);
        expect(matchesTemplate(`${template}s`, `${uri}t`)).toBe(false);
      }),
    );
  });

  it("is matched in time in proportion to both", () => {
    const start = performance.now();
    expect(matchesTemplate(`${"{+a}x".repeat(60)}!`, "x".repeat(8_000))).toBe(false);
    expect(matchesTemplate("{+a}".repeat(100), "x")).toBe(false);
    expect(performance.now() - start).toBeLessThan(2_000);
  });
});
