import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseIJson } from "../../src/mcp/ijson.ts";
import { judge } from "./ijson-reference.ts";

const read = (text: string): ReturnType<typeof parseIJson> =>
  parseIJson(new TextEncoder().encode(text));
const kindOf = (text: string): string => {
  const parsed = read(text);
  return parsed.ok ? "ok" : parsed.kind;
};

const space = fc.constantFrom("", "", " ", "\n\t", "\r\n  ");
const hex = fc
  .integer({ min: 0, max: 0xffff })
  .map((code) => `\\u${code.toString(16).padStart(4, "0")}`);
const characters = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.string({ unit: "binary" }).map((s) => JSON.stringify(s).slice(1, -1)),
  },
  hex,
  hex.map((lower) => `\\u${lower.slice(2).toUpperCase()}`),
  fc.constantFrom(
    "\\ud83d\\ude00",
    "\\uD83D",
    "\\udE00",
    "\\ud83d😀",
    '\\"',
    "\\\\",
    "\\/",
    "\\\\ud800",
  ),
  fc.nat(120).map((n) => "x".repeat(n)),
);
const stringText = fc.array(characters, { maxLength: 4 }).map((parts) => `"${parts.join("")}"`);
const keyText = fc.oneof(
  { weight: 1, arbitrary: stringText },
  {
    weight: 6,
    arbitrary: fc
      .constantFrom(
        "a",
        "\\u0061",
        "b",
        "",
        "__proto__",
        "\\u005f_proto__",
        "é",
        "\\u00e9",
        "\\n",
        "/~",
      )
      .map((key) => `"${key}"`),
  },
  { weight: 6, arbitrary: fc.nat(30).map((n) => `"key${n}"`) },
);
const numberText = fc.oneof(
  { weight: 4, arbitrary: fc.integer().map(String) },
  { weight: 4, arbitrary: fc.double({ noNaN: true, noDefaultInfinity: true }).map(String) },
  fc.stringMatching(/^-?(0|[1-9]\d{0,24})(\.\d{1,24})?([eE][+-]?\d{1,3})?$/),
  fc.bigInt({ min: -(2n ** 60n), max: 2n ** 80n }).map(String),
);
/** JSON text that is now and then outside I-JSON, in any spelling. */
const { json } = fc.letrec<{ json: string }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 5, depthSize: "small" },
    fc.constantFrom("true", "false", "null"),
    numberText,
    stringText,
    fc
      .array(fc.tuple(space, tie("json"), space), { maxLength: 6 })
      .map((items) => `[${items.map((item) => item.join("")).join(",")}]`),
    fc
      .array(fc.tuple(space, keyText, space, fc.constant(":"), tie("json"), space), {
        maxLength: 14,
      })
      .map((members) => `{${members.map((member) => member.join("")).join(",")}}`),
  ),
}));

function expectSameVerdict(text: string): void {
  const expected = judge(text);
  const parsed = read(text);
  expect(parsed.ok ? "ok" : parsed.kind, text).toBe(expected.kind);
  if (parsed.ok && expected.kind === "ok")
    expect(JSON.stringify(parsed.value)).toBe(JSON.stringify(expected.value));
}

describe("any body", () => {
  it("agrees with a plain recursive parser on any JSON", () => {
    fc.assert(fc.property(json, expectSameVerdict), { numRuns: 3_000 });
  });

  it("agrees with it on text that is nearly JSON", () => {
    const damage = fc.record({
      at: fc.nat(),
      removed: fc.nat(3),
      inserted: fc.oneof(
        fc.string({ maxLength: 2, unit: fc.constantFrom(...'{}[],:"\\u0-+.eE1 \n\u00a0\u0001t') }),
        fc.constantFrom('"', "\\", '"a":1,', "1e999", "]", "{"),
      ),
    });
    fc.assert(
      fc.property(json, fc.array(damage, { minLength: 1, maxLength: 2 }), (text, damages) => {
        let damaged = text;
        for (const { at, removed, inserted } of damages) {
          const index = at % (damaged.length + 1);
          damaged = damaged.slice(0, index) + inserted + damaged.slice(index + removed);
        }
        // A cut surrogate pair is no Unicode text, and would be encoded as U+FFFD.
        expectSameVerdict(damaged.toWellFormed());
      }),
      { numRuns: 3_000 },
    );
  });

  it("takes whatever JavaScript writes, unchanged", () => {
    fc.assert(
      fc.property(fc.jsonValue({ stringUnit: "binary" }), fc.nat(4), (value, indent) => {
        const text = JSON.stringify(value, null, indent);
        expect(read(text)).toEqual({ ok: true, value: JSON.parse(text) });
      }),
    );
  });

  it("refuses any object that is given one of its keys again, in whatever spelling", () => {
    const object = fc.dictionary(fc.string({ unit: "binary" }), fc.jsonValue(), {
      minKeys: 1,
      maxKeys: 30,
    });
    fc.assert(
      fc.property(object, fc.nat(), fc.boolean(), (value, pick, isEscaped) => {
        const keys = Object.keys(value);
        const key = keys[pick % keys.length] ?? "";
        const escaped = key.replace(
          /[\s\S]/g,
          (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
        );
        const again = isEscaped ? `"${escaped}"` : JSON.stringify(key);
        const text = `{"list":[0,${JSON.stringify(value).slice(0, -1)},${again}:null}]}`;
        expect(read(text)).toEqual({
          ok: false,
          kind: "not_ijson",
          message: expect.stringContaining(`The key ${JSON.stringify(key)} is there twice`),
        });
      }),
    );
  });
});

describe("any number", () => {
  it("passes in any shortest form: padded exponents, points, no exponent at all", () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (double) => {
        const [mantissa = "", power] = double.toExponential().split("e");
        const [sign, digits] = [power?.[0] ?? "+", (power ?? "").slice(1).padStart(2, "0")];
        const withPoint = mantissa.includes(".") ? mantissa : `${mantissa}.0`;
        for (const literal of [
          String(double),
          `${mantissa}e${sign}${digits}`,
          `${withPoint}E${power}`,
        ])
          expect(kindOf(literal), literal).toBe("ok");
        // A digit more than any double's shortest form has; after a zero it is a number of its own.
        if (double !== 0)
          expect(kindOf(`${withPoint}0000000000000000000001e${power}`)).toBe("not_ijson");
      }),
    );
  });
});
