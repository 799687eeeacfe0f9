import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { canonicalJson } from "../../src/audit/canonical.ts";
import { json, loneSurrogate } from "./arbitraries.ts";
import { canonical } from "./reference.ts";

describe("canonicalJson", () => {
  it("writes the RFC 8785 sample in its canonical form", () => {
    const sample = JSON.parse(
      '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],' +
        '"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/","literals":[null,true,false]}',
    );
    expect(canonicalJson(sample)).toBe(
      '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],' +
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    );
  });

  it("sorts keys by UTF-16 units, not by code points", () => {
    const keys = { "\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "😀": 5, "\u0080": 6, ö: 7 };
    expect(canonicalJson(keys)).toBe('{"\\r":2,"1":4,"\u0080":6,"ö":7,"€":1,"😀":5,"\ufb33":3}');
  });

  it("keeps an own __proto__ key, and is not fooled by what it holds", () => {
    const text = '{"__proto__":{"toJSON":"x","z":1},"a":[{"__proto__":null}]}';
    expect(canonicalJson(JSON.parse(text))).toBe(text);
  });

  it("agrees with a plain implementation on any JSON", () => {
    fc.assert(fc.property(json, (value) => canonicalJson(value) === canonical(value)));
  });

  it("writes nesting of 200,000 levels", () => {
    const text = "[".repeat(200_000) + "]".repeat(200_000);
    expect(canonicalJson(JSON.parse(text))).toBe(text);
  });

  const cycle: { self?: unknown } = {};
  cycle.self = [cycle];
  const sparse: unknown[] = [1];
  sparse[2] = 3;
  it.each([
    ["undefined", undefined],
    ["undefined in an object", { a: { b: undefined } }],
    ["undefined in an array", [[undefined]]],
    ["a hole in an array", sparse],
    ["a function", () => 1],
    ["a symbol in an object", { a: Symbol("x") }],
    ["NaN", [Number.NaN]],
    ["infinity", { a: Number.NEGATIVE_INFINITY }],
    ["a bigint", [1n]],
    ["a cycle", cycle],
  ])("refuses %s", (_name, value) => {
    expect(() => canonicalJson(value)).toThrow(TypeError);
    expect(() => canonicalJson(value)).toThrow(/^No canonical JSON form: ./);
  });

  it("refuses lone surrogates, in values and in keys", () => {
    fc.assert(
      fc.property(loneSurrogate, (text) => {
        expect(() => canonicalJson([text])).toThrow(TypeError);
        expect(() => canonicalJson({ [text]: 1 })).toThrow(TypeError);
      }),
    );
  });

  it("takes the same object in two places, which is no cycle", () => {
    const shared = { a: 1 };
    expect(canonicalJson({ x: shared, y: [shared] })).toBe('{"x":{"a":1},"y":[{"a":1}]}');
  });
});
