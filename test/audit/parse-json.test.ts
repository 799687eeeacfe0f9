import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseJson } from "../../src/audit/parse-json.ts";
import { json } from "./arbitraries.ts";
import { canonical } from "./reference.ts";

describe("parseJson", () => {
  it("reads a key with an escape after one that is its beginning", () => {
    // JSON.parse itself reads the second as {"h":0,"\\":0} on the engines that have the fault.
    const pairs: [string, string, string][] = [
      ["\\\\", '\\"', '"'],
      ["\\\\", "\\n", "\n"],
      ["a\\\\", 'a\\"', 'a"'],
      ["%5c\\\\", '%5c\\"', '%5c"'],
    ];
    for (const [before, key, meant] of pairs) {
      for (let i = 0; i < 3; i++) {
        JSON.parse(`{"h":0,"${before}":0}`);
        parseJson(`{"h":0,"${before}":0}`);
        expect(Object.keys(Object(parseJson(`{"h":0,"${key}":0}`)))).toEqual(["h", meant]);
      }
    }
  });

  it("reads back any value that was written", () => {
    fc.assert(
      fc.property(json, fc.constantFrom(undefined, 1, "\t"), (value, indent) => {
        expect(canonical(parseJson(JSON.stringify(value, null, indent)))).toBe(canonical(value));
      }),
      { numRuns: 500 },
    );
  });

  it("keeps keys that look like its own encoding, and own __proto__ keys", () => {
    const value = Object.fromEntries(
      ["%", "%25", "%5c", "%255c", "\\", '\\"', "__proto__", "a:", '":'].map((key, at) => [
        key,
        at,
      ]),
    );
    const read = parseJson(JSON.stringify(value));
    expect(Object.entries(Object(read))).toEqual(Object.entries(value));
  });

  it("refuses what JSON.parse refuses, and nothing else", () => {
    const broken = fc
      .tuple(json, fc.nat(), fc.constantFrom("", '"', "\\", "\\q", ":", "{", ",", "\n"))
      .map(([value, at, put]) => {
        const text = JSON.stringify({ '"k"\\': 1, value });
        const place = at % text.length;
        return text.slice(0, place) + put + text.slice(place + 1);
      });
    const refuses = (parse: (text: string) => unknown, text: string): boolean => {
      try {
        parse(text);
        return false;
      } catch (error) {
        expect(error).toBeInstanceOf(SyntaxError);
        return true;
      }
    };
    fc.assert(
      fc.property(broken, (text) => {
        expect(refuses(parseJson, text)).toBe(refuses(JSON.parse, text));
      }),
      { numRuns: 1000 },
    );
  });

  it("finishes on texts that make scanning costly", () => {
    for (const inner of [
      "\\\\".repeat(500_000),
      '\\"'.repeat(500_000),
      '\\"\\\\:'.repeat(250_000),
    ]) {
      const text = `{"${inner}":["${inner}"]}`;
      expect(JSON.stringify(parseJson(text))).toBe(text);
    }
  });
});
