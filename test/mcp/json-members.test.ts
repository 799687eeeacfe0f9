import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { elementSpans, memberSpans } from "../../src/mcp/json-members.ts";

/** Keys and strings with everything that a scanner could stumble over. */
const tricky = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({ unit: fc.constantFrom('"', "\\", "{", "}", "[", "]", ",", ":", " ", "\n", "a") }),
);
const value = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    tricky,
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie("value")),
    fc.dictionary(tricky, tie("value")),
  ),
})).value;
const space = fc.constantFrom("", " ", "\n\t", "\r\n  ");

describe("memberSpans", () => {
  it("finds the text of each member, whatever it is and however it is spaced", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(tricky, value)),
        space,
        fc.constantFrom(0, 2),
        (members, gap, indent) => {
          const written = members.map(([key, held]) => ({
            key,
            keyText: JSON.stringify(key),
            text: JSON.stringify(held, null, indent),
          }));
          const inner = written.map(
            ({ keyText, text }) => `${gap}${keyText}${gap}:${gap}${text}${gap}`,
          );
          const text = `${gap}{${inner.join(",")}${gap}}`;
          const found = memberSpans(text);
          expect(
            found.map(({ key, keyStart, valueStart, valueEnd }) => ({
              key,
              keyText: text.slice(keyStart, keyStart + JSON.stringify(key).length),
              text: text.slice(valueStart, valueEnd),
            })),
          ).toEqual(written);
        },
      ),
    );
  });

  it("reads an object that is not at the start", () => {
    const text = '[1, {"a": 2}]';
    const [span] = memberSpans(text, text.indexOf("{"));
    expect(span).toEqual({ key: "a", keyStart: 5, valueStart: 10, valueEnd: 11 });
  });

  it("unescapes keys and keeps both of two equal ones", () => {
    const text = '{"res\\u0075lt":1,"result":{"x":"}"}}';
    const found = memberSpans(text);
    expect(found.map(({ key }) => key)).toEqual(["result", "result"]);
    expect(found.map((s) => text.slice(s.valueStart, s.valueEnd))).toEqual(["1", '{"x":"}"}']);
  });

  it("goes through deep nesting and long runs of backslashes in linear time", () => {
    const deep = `${"[".repeat(300_000)}${"]".repeat(300_000)}`;
    const slashes = `"${"\\\\".repeat(300_000)}\\""`;
    const text = `{"deep":${deep},"slashes":${slashes},"last":true}`;
    const started = performance.now();
    const found = memberSpans(text);
    expect(performance.now() - started).toBeLessThan(2_000);
    expect(found.map((s) => s.valueEnd - s.valueStart)).toEqual([deep.length, slashes.length, 4]);
  });
});

describe("elementSpans", () => {
  it("finds the text of each element", () => {
    fc.assert(
      fc.property(fc.array(value), space, (elements, gap) => {
        const written = elements.map((element) => JSON.stringify(element));
        const text = `${gap}[${gap}${written.join(`${gap},${gap}`)}${gap}]`;
        const found = elementSpans(text).map((s) => text.slice(s.valueStart, s.valueEnd));
        expect(found).toEqual(written);
      }),
    );
  });
});
