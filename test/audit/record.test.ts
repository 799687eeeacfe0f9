import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseJson } from "../../src/audit/parse-json.ts";
import {
  exportLine,
  parseExportLine,
  recordSchema,
  truncateNotes,
  truncateTool,
} from "../../src/audit/record.ts";
import { json, sessions } from "./arbitraries.ts";
import { canonical, lineOf, type Members } from "./reference.ts";
import { ARGS, INTENT, INTENT_EXPORT, INTENT_LINE, OPEN_LINE, SALT } from "./vectors.ts";

const OPEN: Members = JSON.parse(OPEN_LINE);

describe("exportLine", () => {
  it("gives the line that another program computed", () => {
    expect(exportLine(INTENT)).toBe(INTENT_EXPORT);
  });

  it("writes erased arguments as null", () => {
    const { args, salt, ...rest } = JSON.parse(exportLine({ ...INTENT, args: null, salt: null }));
    expect({ args, salt }).toEqual({ args: null, salt: null });
    expect(rest.args_stored_hash).toMatch(/^869a30c1/);
  });

  it("is the canonical text of the composed object, whatever the texts in it imitate", () => {
    fc.assert(
      fc.property(sessions(1), (records) => {
        for (const stored of records) {
          const { hash_chain, salt, args } = stored;
          const composed = {
            ...Object(parseJson(stored.line)),
            hash_chain,
            salt,
            args: args === null ? null : parseJson(args),
          };
          expect(exportLine(stored)).toBe(canonical(composed));
        }
      }),
    );
  });

  it("refuses a line that is no record's", () => {
    expect(() => exportLine({ ...INTENT, line: '{"v":1}' })).toThrow(TypeError);
  });
});

describe("parseExportLine", () => {
  it("is the inverse of exportLine", () => {
    fc.assert(
      fc.property(sessions(1), (records) => {
        for (const stored of records) {
          const parsed = parseExportLine(exportLine(stored));
          expect(parsed).toEqual({ ok: true, record: parseJson(stored.line), stored });
        }
      }),
    );
  });

  it("reads the line that another program computed", () => {
    const parsed = parseExportLine(INTENT_EXPORT);
    expect(parsed).toEqual({ ok: true, record: JSON.parse(INTENT_LINE), stored: INTENT });
  });

  const notCanonical: [string, string][] = [
    ["a space", INTENT_EXPORT.replace('"v":1', '"v": 1')],
    ["a line feed at the end", `${INTENT_EXPORT}\n`],
    ["a key twice, with one value", INTENT_EXPORT.replace('"v":1', '"v":1,"v":1')],
    ["a key twice, the first with another value", INTENT_EXPORT.replace('"v":1', '"v":2,"v":1')],
    ["a key twice in the arguments", INTENT_EXPORT.replace('"bytes":5', '"bytes":4,"bytes":5')],
    ["an escape that need not be", INTENT_EXPORT.replace("ä", "\\u00e4")],
    ["a number in another spelling", INTENT_EXPORT.replace('"seq":2,', '"seq":2.0,')],
    [
      "keys out of order",
      INTENT_EXPORT.replace('"tool":"write_file","v":1', '"v":1,"tool":"write_file"'),
    ],
    [
      "a number that JavaScript cannot hold",
      INTENT_EXPORT.replace('"bytes":5', '"bytes":12345678901234567890'),
    ],
    ["minus zero", INTENT_EXPORT.replace('"bytes":5', '"bytes":-0')],
  ];
  it.each(notCanonical)("refuses %s", (_name, text) => {
    expect(text).not.toBe(INTENT_EXPORT);
    expect(parseExportLine(text)).toMatchObject({ ok: false, code: "NOT_CANONICAL" });
  });

  const malformed: [string, string][] = [
    ["nothing", ""],
    ["what is not JSON", "{"],
    ["an array", "[]"],
    ["null", "null"],
    ["a lone surrogate", INTENT_EXPORT.replace("ä", "\\ud800")],
    ["a number beyond all", INTENT_EXPORT.replace('"bytes":5', '"bytes":1e999')],
    ["a record without hash_chain, args and salt", INTENT_LINE],
    [
      "a hash_chain in capitals",
      lineOf(OPEN).replace(/"hash_chain":"\w+"/, `"hash_chain":"${"A".repeat(64)}"`),
    ],
    ["arguments that are an array", lineOf(OPEN, [], SALT)],
    ["a short salt", lineOf(OPEN, {}, SALT.slice(2))],
    ["a salt in capitals", lineOf(OPEN, {}, "A".repeat(32))],
  ];
  it.each(malformed)("refuses %s", (_name, text) => {
    expect(parseExportLine(text)).toMatchObject({ ok: false, code: "MALFORMED" });
  });

  const shapes: [string, Members][] = [
    ["a key more", { more: null }],
    ["an own __proto__ key", JSON.parse('{"__proto__":{"v":1}}')],
    ["another version", { v: 2 }],
    ["a seq of 0", { seq: 0 }],
    ["a seq that is a text", { seq: "1" }],
    ["an empty tenant", { tenant: "" }],
    ["a line feed in the session id", { session_id: "a\nb" }],
    ["a time without milliseconds", { timestamp: "2026-11-22T10:00:00Z" }],
    ["a day that never was", { timestamp: "2026-02-30T10:00:00.000Z" }],
    ["an hour that never was", { timestamp: "2026-02-20T25:00:00.000Z" }],
    ["an empty event", { event: "" }],
    ["an unknown result", { result: "maybe" }],
    ["a hash of 63 digits", { prev_hash: "a".repeat(63) }],
    ["no hash at all", { prev_hash: null }],
    ["a tool of 257 characters", { tool: "x".repeat(257) }],
    ["notes of 1,025 characters", { notes: "x".repeat(1025) }],
    ["a context that is an array", { context: [] }],
    ["a context that is a text", { context: "x" }],
    ["a fraction in the context", { context: { a: [0.5] } }],
    ["an integer that others read differently", { context: { a: 2 ** 60 } }],
    ["a negative intent", { intent_seq: -1 }],
  ];
  it.each(shapes)("refuses %s", (_name, change) => {
    const record = Object.fromEntries([...Object.entries(OPEN), ...Object.entries(change)]);
    expect(parseExportLine(lineOf(record))).toMatchObject({ ok: false, code: "MALFORMED" });
  });

  it("refuses a record that lacks any one key", () => {
    for (const key of Object.keys(OPEN)) {
      const { [key]: _lacking, ...rest } = OPEN;
      expect(recordSchema.safeParse(rest).success, key).toBe(false);
      expect(parseExportLine(lineOf(rest)), key).toMatchObject({ ok: false, code: "MALFORMED" });
    }
  });

  it("accepts events and roles of tomorrow, and texts at their limits", () => {
    const record = {
      ...OPEN,
      event: "?",
      role: "x y",
      tool: "x".repeat(256),
      notes: "x".repeat(1024),
    };
    expect(parseExportLine(lineOf(record)).ok).toBe(true);
  });

  it("keeps own __proto__ keys of context and arguments", () => {
    const inner = JSON.parse('{"__proto__":{"a":1}}');
    const parsed = parseExportLine(lineOf({ ...OPEN, context: inner }, inner, SALT));
    expect(parsed.ok && parsed.stored.args).toBe('{"__proto__":{"a":1}}');
    expect(parsed.ok && parsed.stored.line).toContain('"context":{"__proto__":{"a":1}}');
  });

  it("takes any arguments, and gives their canonical text", () => {
    fc.assert(
      fc.property(json, (args) => {
        const parsed = parseExportLine(lineOf(OPEN, args, SALT));
        expect(parsed.ok && parsed.stored.args).toBe(canonical(args));
      }),
    );
  });

  it("reads arguments and contexts nested 100,000 levels deep", () => {
    const deep = `{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`;
    expect(parseExportLine(INTENT_EXPORT.replace(ARGS, deep)).ok).toBe(true);
    expect(parseExportLine(INTENT_EXPORT.replace('"context":null', `"context":${deep}`)).ok).toBe(
      true,
    );
  });
});

describe("truncation", () => {
  it("leaves what fits, and never ends in half a character", () => {
    fc.assert(
      fc.property(fc.integer({ min: 240, max: 260 }), fc.string({ unit: "binary" }), (n, end) => {
        const text = "x".repeat(n) + end;
        const cut = truncateTool(text);
        expect(text.startsWith(cut)).toBe(true);
        expect(cut.isWellFormed()).toBe(true);
        expect(cut.length).toBeLessThanOrEqual(256);
        expect(cut.length).toBeGreaterThanOrEqual(Math.min(text.length, 255));
      }),
    );
    expect(truncateNotes("x".repeat(1024))).toHaveLength(1024);
    expect(truncateNotes("x".repeat(5000))).toHaveLength(1024);
  });

  it("replaces lone surrogates, at the cut too", () => {
    expect(truncateTool("a\ud800b")).toBe("a\ufffdb");
    expect(truncateTool(`${"x".repeat(255)}\ud800\ud800`)).toBe(`${"x".repeat(255)}\ufffd`);
  });
});
