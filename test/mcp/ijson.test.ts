import { describe, expect, it } from "vitest";
import {
  type JsonValue,
  MAX_JSON_DEPTH,
  type ParsedIJson,
  parseIJson,
} from "../../src/mcp/ijson.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const read = (text: string): ParsedIJson => parseIJson(bytes(text));
const kindOf = (text: string): string => {
  const parsed = read(text);
  return parsed.ok ? "ok" : parsed.kind;
};
const messageOf = (text: string): string => {
  const parsed = read(text);
  return parsed.ok ? "" : parsed.message;
};

describe("a body", () => {
  it("finds the end of a string wherever its escapes are", () => {
    const sequences = ["", '\\"', "\\\\", '\\\\\\"', "\\n", "\\u0022", "\\ud83d\\ude00"];
    for (const sequence of sequences)
      for (let before = 0; before < 110; before++)
        for (const after of [0, 1, 46, 47, 48, 49, 50, 120]) {
          const content = `${"x".repeat(before)}${sequence}${"y".repeat(after)}${sequence}`;
          expect(kindOf(`{"k":"${content}","l":"${content}"}`)).toBe("ok");
          expect(kindOf(`{"k":"${content}","k":1}`)).toBe("not_ijson");
          expect(kindOf(`{"${content}":1,"${content}":1}`)).toBe("not_ijson");
          expect(kindOf(`{"k":"${content}\\ud800","l":1}`)).toBe("not_ijson");
        }
  });

  it("keeps keys named __proto__ as properties of their object", () => {
    const parsed = read('{"__proto__":{"admin":true},"constructor":1}');
    const value: JsonValue = parsed.ok ? parsed.value : null;
    expect(JSON.stringify(value)).toBe('{"__proto__":{"admin":true},"constructor":1}');
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
  });

  it("takes equal keys in different objects, and equal strings that are no keys", () => {
    expect(kindOf('[{"a":1},{"a":{"a":["a","a"]}}]')).toBe("ok");
    expect(kindOf('[{},"a","a",[],"a",{"a":{}},"a"]')).toBe("ok");
    expect(kindOf('{"a":"b","b":"a","c":["b",{"b":1}]}')).toBe("ok");
  });
});

describe("numbers", () => {
  it.each([
    "0",
    "-0",
    "-0.0",
    "0e400",
    "0e-99999999999999999999",
    "9007199254740991",
    "9007199254740992",
    "9007199254740994",
    "-9007199254740992",
    "0.1",
    "0.10",
    "0.30000000000000004",
    "1e2",
    "1E+2",
    "100.000",
    "1e20",
    "1e23",
    "100000000000000000000000",
    "1180591620717411303424",
    "-1180591620717411303424",
    "1.1805916207174113e+21",
    "118059162071741130342.4e1",
    "5e-324",
    "1.7976931348623157e308",
    "1.7976931348623157e+308",
    `1${"0".repeat(308)}`,
    String(2n ** 1023n),
    `0.${"0".repeat(400)}1e400`,
    "1732300000000",
    "1234567890123456e-30",
  ])("that a double holds pass: %s", (literal) => {
    const expected = { ok: true, value: { n: Number(literal) } };
    expect(read(`{"n":${literal}}`)).toEqual(expected);
  });

  it.each([
    "9007199254740993",
    "-9007199254740993",
    "9007199254740993.0",
    "900719925474099.3e1",
    "12345678901234567890",
    "1180591620717411303425",
    "0.10000000000000001",
    "0.1000000000000000055511151231257827021181583404541015625",
    "3.141592653589793238462643383279",
    "1e400",
    "-1e400",
    "1e-400",
    "-1e-400",
    "4.9e-324",
    "2e-324",
    "1.7976931348623159e308",
    `1${"0".repeat(309)}`,
    `1${"0".repeat(308)}1e-1`,
  ])("that would silently become another are refused, naming the place: %s", (literal) => {
    expect(kindOf(`{"n":${literal}}`)).toBe("not_ijson");
    expect(messageOf(`{"n":[${literal}]}`)).toContain('"/n/0"');
  });

  it("that Python writes pass", () => {
    // json.dumps([1e16, 1e22, 1e-5, 1.5e-7, 2**53, 2**70, -10**22, 5e-324, 1/3, 1e100, 123456789.0, 1.0])
    const dumped =
      "[1e+16, 1e+22, 1e-05, 1.5e-07, 9007199254740992, 1180591620717411303424, -10000000000000000000000, 5e-324, 0.3333333333333333, 1e+100, 123456789.0, 1.0]";
    expect(kindOf(dumped)).toBe("ok");
  });
});

describe("strings", () => {
  it.each([
    "\\ud800",
    "\\uDFFF",
    "\\udc00\\ud800",
    "\\ud800\\u0041",
    "\\ud83d😀",
    "x\\ud83d\\n\\ude00",
  ])("with half a surrogate pair are refused as value and as key: %s", (content) => {
    expect(kindOf(`"${content}"`)).toBe("not_ijson");
    expect(kindOf(`{"a":{"${content}":1}}`)).toBe("not_ijson");
    expect(messageOf(`{"a":["${content}"]}`)).toContain('"/a/0"');
  });

  it.each(["\\ud83d\\ude00", "\\uD83D\\uDE00", "😀", "\\\\ud800", "\\ufffe", "\\u0000", "\uffff"])(
    "of whole characters pass: %s",
    (content) => {
      expect(kindOf(`["${content}",{"${content}":1}]`)).toBe("ok");
    },
  );
});

describe("a refusal", () => {
  it("names a repeated key by its pointer", () => {
    expect(messageOf('{"a":{"b/~":[0,{"x":1,"y":[1,2],"\\u0078":2}]}}')).toBe(
      'The key "x" is there twice, at "/a/b~1~0/1/x".',
    );
    expect(messageOf('{"":1,"":1}')).toBe('The key "" is there twice, at "/".');
  });

  it("names a number by its pointer, also at the top", () => {
    expect(messageOf("1e400")).toBe(
      'The number "1e400" at "" is not one that JavaScript can hold.',
    );
  });

  it("stays short, and is well-formed, whatever it quotes", () => {
    const key = `${"😀".repeat(64)}a`.slice(1).padEnd(200, "k");
    for (const long of [JSON.stringify(key), `"${"\\ud800".repeat(500)}"`]) {
      const message = messageOf(`{${long}:{${long}:1,${long}:2}}`);
      expect(message.length).toBeLessThan(700);
      expect(message.isWellFormed()).toBe(true);
    }
    expect(messageOf("1".repeat(100_000)).length).toBeLessThan(300);
  });

  it("is for the first thing found", () => {
    expect(messageOf('{"a":1e400,"a":1,"b":"\\ud800"}')).toContain("1e400");
    expect(messageOf('{"a":1,"a":1e400}')).toContain("twice");
  });
});

describe("what is not JSON", () => {
  it.each([
    "",
    " ",
    "{",
    "[1,]",
    '{"a":1,}',
    "{a:1}",
    "'a'",
    "01",
    "+1",
    ".5",
    "1.",
    "NaN",
    "Infinity",
    "-",
    '"a',
    '"\\',
    '"\\x41"',
    '"\\u12"',
    '"\n"',
    "[1] 2",
    "}{",
    "]]]]",
    "undefined",
    "\u00a01",
    "\ufeff{}",
    '{"a":1,"a":2',
    '{"a":1e400',
    '["\\ud800',
    '{"a"',
    '{"\\u":1,"\\u":1}',
  ])("is a syntax error, whatever else it is: %j", (text) => expect(kindOf(text)).toBe("syntax"));

  it.each([
    ["a byte order mark", [0xef, 0xbb, 0xbf, 0x31]],
    ["an overlong form", [0x22, 0xc0, 0x80, 0x22]],
    ["an encoded surrogate", [0x22, 0xed, 0xa0, 0x80, 0x22]],
    ["a cut sequence", [0x22, 0xe2, 0x82, 0x22]],
    ["a byte out of range", [0x22, 0xf5, 0x80, 0x80, 0x80, 0x22]],
    ["UTF-16", [0x31, 0x00]],
  ])("is a syntax error: %s", (_, raw) => {
    expect(parseIJson(Uint8Array.from(raw))).toMatchObject({ ok: false, kind: "syntax" });
    expect(kindOf("1")).toBe("ok");
  });

  it("is not shown to its sender, who may have put a secret there", () => {
    expect(messageOf("hunter2")).not.toContain("hunter2");
  });
});

describe("nesting", () => {
  it("may be as deep as the limit, and no deeper", () => {
    const nested = (depth: number): string => "[".repeat(depth) + "]".repeat(depth);
    expect(kindOf(nested(MAX_JSON_DEPTH))).toBe("ok");
    expect(kindOf(nested(MAX_JSON_DEPTH + 1))).toBe("too_deep");
    expect(kindOf(`${'{"a":'.repeat(MAX_JSON_DEPTH)}1${"}".repeat(MAX_JSON_DEPTH)}`)).toBe("ok");
    expect(kindOf(`${'{"a":'.repeat(MAX_JSON_DEPTH + 1)}1${"}".repeat(MAX_JSON_DEPTH + 1)}`)).toBe(
      "too_deep",
    );
  });

  it("of a million levels is refused without recursion, also in what is no JSON or no I-JSON", () => {
    expect(kindOf("[".repeat(1_000_000))).toBe("too_deep");
    expect(kindOf('{"a":['.repeat(500_000))).toBe("too_deep");
    expect(kindOf(`{"a":1,"a":1,"b":${"[".repeat(1_000_000)}${"]".repeat(1_000_000)}}`)).toBe(
      "too_deep",
    );
  });

  it("does not count what is in strings, nor what is closed again", () => {
    expect(kindOf(JSON.stringify("[{".repeat(1_000)))).toBe("ok");
    expect(kindOf(`["\\"",${JSON.stringify('\\"[['.repeat(1_000))}]`)).toBe("ok");
    expect(kindOf(`[${"[],{},".repeat(1_000)}0]`)).toBe("ok");
  });
});

describe("a body of 4 MB", () => {
  const size = 4 * 1024 * 1024;
  it.each<[string, string, string]>([
    ["one plain string", `"${"x".repeat(size)}"`, "ok"],
    ["one string of escapes", `"${"\\n".repeat(size / 2)}"`, "ok"],
    ["one string of lines, twice as long", `"${`${"x".repeat(50)}\\n`.repeat(size / 26)}"`, "ok"],
    ["one string of quotes", `"${`${"x".repeat(98)}\\"`.repeat(size / 100)}"`, "ok"],
    ["escaped surrogates", `"${"\\ud83d\\ude00".repeat(size / 12)}"`, "ok"],
    ["strings without escapes", `[${`"${"x".repeat(97)}",`.repeat(size / 100)}0]`, "ok"],
    ["strings with one", `[${`"${"x".repeat(92)}\\u2026",`.repeat(size / 100)}0]`, "ok"],
    ["an unclosed string", `["${"x\\".repeat(size / 2)}`, "syntax"],
    ["different keys", `{${Array.from({ length: size / 16 }, (_, i) => `"key${i}":0`)}}`, "ok"],
    ["the same key", `{${'"a":0,'.repeat(size / 6)}"a":0}`, "not_ijson"],
    ["one number", `0.${"1".repeat(size)}`, "not_ijson"],
    ["one power of ten", `1${"0".repeat(size)}1`, "not_ijson"],
    ["inexact numbers", `[${"0.10000000000000001,".repeat(size / 20)}0]`, "not_ijson"],
    ["exact numbers", `[${"0.30000000000000004,".repeat(size / 20)}0]`, "ok"],
    ["commas", ",".repeat(size), "syntax"],
  ])("is read in linear time: %s", (_, text, kind) => {
    const body = bytes(text);
    const started = performance.now();
    const parsed = parseIJson(body);
    // A quadratic reader takes minutes for most of these, a linear one a tenth of a second.
    expect(performance.now() - started).toBeLessThan(3_000);
    expect(parsed.ok ? "ok" : parsed.kind).toBe(kind);
  });
});
