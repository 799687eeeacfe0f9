import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { appendRecord, argsStoredHash, emptyHead, genesis } from "../../src/audit/chain.ts";
import { sha256Hex } from "../../src/audit/hash-node.ts";
import * as portable from "../../src/audit/hash-portable.ts";
import type { RecordInput } from "../../src/audit/record.ts";
import { input, loneSurrogate, SESSION } from "./arbitraries.ts";
import { canonical, sha256 } from "./reference.ts";
import {
  ARGS,
  ARGS_STORED_HASH,
  GENESIS,
  INTENT_HASH,
  INTENT_INPUT,
  INTENT_LINE,
  INTENT_MS,
  OPEN_HASH,
  OPEN_INPUT,
  OPEN_LINE,
  OPEN_MS,
  SALT,
} from "./vectors.ts";

const EMPTY = emptyHead(sha256Hex, SESSION.tenant, SESSION.session_id);
const append = (from: RecordInput, head = EMPTY, nowMs = OPEN_MS) =>
  appendRecord(sha256Hex, SESSION, head, from, nowMs);

describe("a session's first head", () => {
  it("is the genesis of its name, before any time", () => {
    expect(genesis(sha256Hex, SESSION.tenant, SESSION.session_id)).toBe(GENESIS);
    expect(EMPTY).toEqual({ seq: 0, hash_chain: GENESIS, timestamp: "1970-01-01T00:00:00.000Z" });
  });

  it("refuses names that could imitate another session's", () => {
    expect(() => genesis(sha256Hex, "a\nb", "c")).toThrow(TypeError);
    expect(() => genesis(sha256Hex, "a", "b\nc")).toThrow(TypeError);
    expect(() => genesis(sha256Hex, "", "c")).toThrow(TypeError);
    expect(() => genesis(sha256Hex, "a", "\ud800")).toThrow(TypeError);
  });
});

describe("appendRecord", () => {
  it("gives the bytes and hashes that another program computed, on either hash", () => {
    for (const hash of [sha256Hex, portable.sha256Hex]) {
      const first = appendRecord(hash, SESSION, EMPTY, OPEN_INPUT, OPEN_MS);
      expect(first.line).toBe(OPEN_LINE);
      expect(first.head).toEqual({
        seq: 1,
        hash_chain: OPEN_HASH,
        timestamp: "2026-11-22T10:00:00.123Z",
      });
      const second = appendRecord(hash, SESSION, first.head, INTENT_INPUT, INTENT_MS);
      expect(second.line).toBe(INTENT_LINE);
      expect(second.head.hash_chain).toBe(INTENT_HASH);
    }
  });

  it("writes the canonical text of exactly what it was given, for any input", () => {
    const head = { seq: 41, hash_chain: "e".repeat(64), timestamp: "2026-01-01T00:00:00.000Z" };
    fc.assert(
      fc.property(input, (from) => {
        const { line, head: next } = append(from, head);
        const expected = canonical({
          ...from,
          v: 1,
          ...SESSION,
          seq: 42,
          timestamp: "2026-11-22T10:00:00.123Z",
          prev_hash: head.hash_chain,
        });
        expect(line).toBe(expected);
        expect(next).toEqual({
          seq: 42,
          hash_chain: sha256(expected),
          timestamp: "2026-11-22T10:00:00.123Z",
        });
      }),
    );
  });

  it("never lets time run backwards", () => {
    const first = append(OPEN_INPUT);
    const second = append(OPEN_INPUT, first.head, OPEN_MS - 5000);
    expect(second.head.timestamp).toBe(first.head.timestamp);
    expect(append(OPEN_INPUT, second.head, OPEN_MS + 1).head.timestamp).toBe(
      "2026-11-22T10:00:00.124Z",
    );
  });

  it("makes text from outside well-formed, so that a call can always be recorded", () => {
    fc.assert(
      fc.property(loneSurrogate, (bad) => {
        const { line } = append({
          ...OPEN_INPUT,
          principal: bad,
          role: bad,
          event: bad,
          tool: bad,
          workspace_root: bad,
          error_code: bad,
          request_id: bad,
          notes: bad,
          context: { [bad]: [bad, { deep: bad }] },
        });
        expect(line.isWellFormed()).toBe(true);
        expect(line).not.toMatch(/\\ud[89a-f]/i);
        const good = bad.toWellFormed();
        const { context, notes, tool } = JSON.parse(line);
        expect([notes, tool, context]).toEqual([good, good, { [good]: [good, { deep: good }] }]);
      }),
    );
  });

  it("cuts tool and notes to their limits, never inside a character", () => {
    const long = (units: number) => `${"x".repeat(units - 1)}😀y`;
    const { tool, notes } = JSON.parse(
      append({ ...OPEN_INPUT, tool: long(256), notes: long(1024) }).line,
    );
    expect(tool).toBe("x".repeat(255));
    expect(notes).toBe("x".repeat(1023));
    const whole = `${"x".repeat(254)}😀`;
    expect(JSON.parse(append({ ...OPEN_INPUT, tool: `${whole}😀` }).line).tool).toBe(whole);
  });

  it("does not touch its input", () => {
    const from = { ...OPEN_INPUT, context: { b: ["\ud800"], a: 1 } };
    const before = structuredClone(from);
    append(from);
    expect(from).toEqual(before);
    expect(Object.keys(from.context)).toEqual(["b", "a"]);
  });

  const bad: [string, Partial<RecordInput>][] = [
    ["an empty principal", { principal: "" }],
    ["an empty role", { role: "" }],
    ["an empty event", { event: "" }],
    ["an empty request id", { request_id: "" }],
    ["an empty error code", { error_code: "" }],
    ["a plan hash that is none", { plan_hash: "abc" }],
    ["a hash in capitals", { args_hash: "A".repeat(64) }],
    ["a hash with more after it", { args_stored_hash: `${"a".repeat(64)}\n` }],
    ["a result hash that is none", { result_hash: "" }],
    ["an intent that is this record", { intent_seq: 1 }],
    ["intent 0", { intent_seq: 0 }],
    ["half an intent", { intent_seq: 0.5 }],
    ["a fraction in the context", { context: { a: [{ b: 0.5 }] } }],
    ["an integer that others read differently", { context: { a: 2 ** 53 } }],
    ["NaN in the context", { context: { a: Number.NaN } }],
  ];
  it.each(bad)("refuses %s, which no verifier would accept", (_name, change) => {
    expect(() => append({ ...OPEN_INPUT, ...change })).toThrow(TypeError);
  });

  it("refuses a time that is no date", () => {
    expect(() => append(OPEN_INPUT, EMPTY, Number.NaN)).toThrow(RangeError);
  });
});

describe("argsStoredHash", () => {
  it("hashes the salt's bytes and then the text", () => {
    expect(argsStoredHash(sha256Hex, SALT, ARGS)).toBe(ARGS_STORED_HASH);
    expect(argsStoredHash(portable.sha256Hex, SALT, ARGS)).toBe(ARGS_STORED_HASH);
  });

  it("refuses a salt that is not whole bytes of lowercase hex", () => {
    for (const salt of ["", "0", "0g", "AB", "00 0", `${SALT}\n`]) {
      expect(() => argsStoredHash(sha256Hex, salt, ARGS)).toThrow(TypeError);
    }
  });
});
