import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { MAX_FINDINGS } from "../../src/audit/report.ts";
import { createVerifier, type Report, verifyLines } from "../../src/audit/verify.ts";
import { SESSION } from "./arbitraries.ts";
import { canonical, lineOf, linkRecords, type Members } from "./reference.ts";
import { INTENT_EXPORT, INTENT_HASH, OPEN_LINE } from "./vectors.ts";

const OTHER_SESSION = "0199a3c2-7b1f-8abc-9def-ba9876543210";
const link = (...records: Members[]): string[] =>
  linkRecords(SESSION.tenant, SESSION.session_id, records);
const pairs = (report: Report): string[] =>
  report.verdicts.integrity.findings.map(({ seq, code }) => `${seq} ${code}`);
const found = (lines: string[], options = {}): string[] => pairs(verifyLines(lines, options));
const at = (lines: readonly string[], index: number): string => {
  const line = lines[index];
  if (line === undefined) throw new Error(`No line ${index}`);
  return line;
};
/** The line with one member changed, and its hash as it was. */
const edit = (line: string, change: Members): string =>
  canonical({ ...JSON.parse(line), ...change });

describe("the report", () => {
  it("says what was verified, and that nothing more was asked", () => {
    const lines = [lineOf(JSON.parse(OPEN_LINE)), INTENT_EXPORT];
    const unsaid = { ok: null, findings: [] };
    expect(verifyLines(lines, SESSION)).toEqual({
      session_id: SESSION.session_id,
      records: 2,
      head: INTENT_HASH,
      unanchored: 2,
      open_intents: [2],
      verdicts: {
        integrity: { ok: true, findings: [] },
        anchored: unsaid,
        completeness: unsaid,
        independence: unsaid,
        time: unsaid,
      },
    });
  });

  it("gives the hash that the last record has, not the one it claims", () => {
    const lines = link({}, {});
    const report = verifyLines([at(lines, 0), edit(at(lines, 1), { hash_chain: "0".repeat(64) })]);
    expect(report.head).toBe(JSON.parse(at(lines, 1)).hash_chain);
  });

  it("never calls an empty export valid", () => {
    for (const report of [verifyLines([]), verifyLines([""]), createVerifier(SESSION).finish()]) {
      expect(report.verdicts.integrity.ok).toBe(false);
      expect(pairs(report)).toEqual(["0 EMPTY"]);
      expect([report.session_id, report.records, report.head]).toEqual([null, 0, null]);
    }
  });

  it("takes the empty text after a last line feed, and no other", () => {
    const [first = "", second = ""] = link({}, {});
    expect(found([first, second, ""])).toEqual([]);
    expect(found([first, "", second])).toEqual(["2 MALFORMED"]);
    expect(found([first, second, "", ""])).toEqual(["3 MALFORMED"]);
    expect(found(["", first])).toEqual(["1 MALFORMED"]);
  });

  it("takes objects as it takes lines", () => {
    const lines = link({ context: { b: 1, a: [] } }, {});
    const verifier = createVerifier(SESSION);
    for (const line of lines)
      verifier.push(Object.fromEntries(Object.entries(JSON.parse(line)).reverse()));
    expect(verifier.finish()).toEqual(verifyLines(lines));

    const bad = createVerifier();
    bad.push(JSON.parse(edit(at(lines, 0), { notes: "x" })));
    bad.push({ v: undefined });
    bad.push([]);
    expect(pairs(bad.finish())).toEqual(["1 HASH_MISMATCH", "2 MALFORMED", "3 MALFORMED"]);
  });

  it("can be asked again, and go on", () => {
    const [first = "", second = ""] = link({ event: "session_close" }, {});
    const verifier = createVerifier();
    verifier.push(first);
    expect(pairs(verifier.finish())).toEqual([]);
    verifier.push(second);
    expect(pairs(verifier.finish())).toEqual(["2 AFTER_CLOSE"]);
    expect(pairs(verifier.finish())).toEqual(["2 AFTER_CLOSE"]);
  });

  it("lists a bounded number of findings, and counts the rest", () => {
    const lines = link(...Array.from({ length: MAX_FINDINGS + 5 }, () => ({}))).map((line) =>
      edit(line, { notes: "x" }),
    );
    const { integrity } = verifyLines(lines).verdicts;
    expect(integrity.findings).toHaveLength(MAX_FINDINGS + 1);
    expect(integrity.findings.at(-1)).toEqual({
      seq: MAX_FINDINGS + 1,
      code: "MORE_FINDINGS",
      message: `5 more findings, from record ${MAX_FINDINGS + 1} on, are not listed`,
    });
  });
});

describe("the chain", () => {
  it("starts at 1, at the genesis of its own session", () => {
    const forged = linkRecords("default", OTHER_SESSION, [
      { session_id: SESSION.session_id },
      { session_id: SESSION.session_id },
    ]);
    expect(found(forged)).toEqual(["1 GENESIS_MISMATCH"]);
    const tenant = linkRecords("another", SESSION.session_id, [{ tenant: "default" }]);
    expect(found(tenant)).toEqual(["1 GENESIS_MISMATCH"]);
    const [, second = "", third = ""] = link({}, {}, {});
    expect(found([second, third])).toEqual(["1 SEQ_GAP", "2 LINK_BROKEN"]);
  });

  it("does not take a record of another session for the first of this one", () => {
    const lines = link({}, {});
    expect(found(lines, { ...SESSION, session_id: OTHER_SESSION })).toEqual(["1 SESSION_MISMATCH"]);
    expect(found(lines, { tenant: "another" })).toEqual(["1 SESSION_MISMATCH"]);
    expect(found(lines, { tenant: undefined, session_id: undefined })).toEqual([]);
  });

  it("holds one session's records only", () => {
    expect(found(link({}, { session_id: OTHER_SESSION }, {}))).toEqual(["2 SESSION_MISMATCH"]);
    expect(found(link({}, { tenant: "another" }, {}))).toEqual(["2 SESSION_MISMATCH"]);
  });

  it("is identified by the first record that is whole", () => {
    const [first = "", ...rest] = link({}, {}, {});
    const lines = [edit(first, { session_id: OTHER_SESSION }), ...rest];
    const report = verifyLines(lines);
    expect(pairs(report)).toEqual(["1 GENESIS_MISMATCH", "1 HASH_MISMATCH"]);
    expect(report.session_id).toBe(SESSION.session_id);
    expect(found(lines, { session_id: OTHER_SESSION })).toContain("2 SESSION_MISMATCH");
  });

  it("has no gap, repetition or exchange", () => {
    const lines = link({}, {}, {}, {}, {});
    const pick = (...indices: number[]): string[] =>
      found(indices.map((index) => at(lines, index)));
    expect(pick(0, 1, 2, 3, 4)).toEqual([]);
    expect(pick(0, 1, 3, 4)).toEqual(["3 SEQ_GAP", "4 LINK_BROKEN"]);
    expect(pick(0, 1, 4)).toEqual(["3 SEQ_GAP", "5 LINK_BROKEN"]);
    expect(pick(0, 1, 1, 2)).toEqual(["2 SEQ_GAP", "2 LINK_BROKEN"]);
    expect(pick(0, 1, 0, 1, 2)).toEqual(["1 SEQ_GAP", "1 LINK_BROKEN"]);
    expect(pick(0, 2, 1, 3)).toEqual([
      "2 SEQ_GAP",
      "3 LINK_BROKEN",
      "2 SEQ_GAP",
      "2 LINK_BROKEN",
      "3 SEQ_GAP",
      "4 LINK_BROKEN",
    ]);
  });

  it("knows a record by its link when its seq was changed", () => {
    const lines = link({}, {}, {});
    for (const seq of [1, 7, 2 ** 40]) {
      const changed = [at(lines, 0), edit(at(lines, 1), { seq }), at(lines, 2)];
      expect(found(changed)).toEqual(["2 SEQ_GAP", "2 HASH_MISMATCH"]);
    }
    for (const seq of [0, -1, 1.5, "2", null]) {
      const changed = [at(lines, 0), edit(at(lines, 1), { seq }), at(lines, 2)];
      expect(found(changed)[0]).toBe(typeof seq === "number" ? "2 SEQ_GAP" : "2 MALFORMED");
      expect(found(changed).every((finding) => finding.startsWith("2 "))).toBe(true);
    }
  });

  it("shows a changed record once, whichever part of it was changed", () => {
    const lines = link({}, { notes: "a" }, {});
    const changed = (change: Members): string[] =>
      found([at(lines, 0), edit(at(lines, 1), change), at(lines, 2)]);
    expect(changed({ notes: "b" })).toEqual(["2 HASH_MISMATCH"]);
    expect(changed({ hash_chain: "0".repeat(64) })).toEqual(["2 HASH_MISMATCH"]);
    expect(changed({ prev_hash: "0".repeat(64) })).toEqual(["2 LINK_BROKEN", "2 HASH_MISMATCH"]);
    expect(changed({ hash_chain: "x" })).toEqual(["2 MALFORMED", "2 HASH_MISMATCH"]);
    const renamed = at(lines, 1).replace('"hash_chain":', '"hash_chaos":');
    expect(found([at(lines, 0), renamed, at(lines, 2)])).toEqual([
      "2 MALFORMED",
      "2 MALFORMED",
      "2 HASH_MISMATCH",
    ]);
    expect(changed({ more: 1 })).toEqual(["2 MALFORMED", "2 HASH_MISMATCH"]);
    expect(changed({ v: 2 })).toEqual(["2 MALFORMED", "2 HASH_MISMATCH"]);
  });

  it("shows a record that was changed and hashed anew by the link to it", () => {
    const lines = link({}, {}, {}, {});
    const { hash_chain: _hash, args: _args, salt: _salt, ...record } = JSON.parse(at(lines, 1));
    const forged = lineOf({ ...record, notes: "other" });
    expect(found([at(lines, 0), forged, at(lines, 2), at(lines, 3)])).toEqual(["3 LINK_BROKEN"]);
  });

  it("cannot show that its end was cut, or that all of it was written anew", () => {
    const lines = link({}, { notes: "a" }, {});
    expect(found(lines.slice(0, 2))).toEqual([]);
    expect(found(link({}, { notes: "b" }, {}))).toEqual([]);
  });

  it("goes on after lines that cannot be read, replaced or put in", () => {
    const lines = link({}, {}, {}, {}, {});
    const [a = "", b = "", c = "", d = "", e = ""] = lines;
    expect(found([a, "garbage", c, d])).toEqual(["2 MALFORMED"]);
    expect(found([a, "{}", c, d])).not.toContain("4 LINK_BROKEN");
    expect(found([a, "garbage", "[]", d, e])).toEqual(["2 MALFORMED", "3 MALFORMED"]);
    expect(found([a, "garbage", b, c])).toEqual(["2 MALFORMED"]);
    expect(found(["garbage", a, b])).toEqual(["1 MALFORMED"]);
    expect(found(["garbage", b, c])).toEqual(["1 MALFORMED"]);
    expect(found([a, "garbage", d, e])).toEqual(["2 MALFORMED", "3 SEQ_GAP", "4 LINK_BROKEN"]);
    expect(found([a, b, "null"])).toEqual(["3 MALFORMED"]);
  });

  it("holds a record that follows an inserted line against the record before it", () => {
    const lines = link({}, {}, {});
    const { hash_chain: _hash, args: _args, salt: _salt, ...record } = JSON.parse(at(lines, 1));
    const forged = lineOf({ ...record, prev_hash: "0".repeat(64) });
    expect(found([at(lines, 0), "garbage", forged])).toEqual(["2 MALFORMED", "2 LINK_BROKEN"]);
  });

  it("refuses lines in another form, and reads on", () => {
    const lines = link({}, { notes: "a" }, {});
    const second = at(lines, 1);
    const changed = (line: string): string[] => found([at(lines, 0), line, at(lines, 2)]);
    expect(changed(` ${second}`)).toEqual(["2 NOT_CANONICAL"]);
    expect(changed(second.replace('"notes":"a"', '"notes":"b","notes":"a"'))).toEqual([
      "2 NOT_CANONICAL",
    ]);
    expect(changed(second.replace('"notes":"a"', '"notes":"a","notes":"b"'))).toEqual([
      "2 NOT_CANONICAL",
      "2 HASH_MISMATCH",
    ]);
    expect(changed(second.replace('"notes":"a"', '"notes":"\\ud800"'))).toEqual(["2 MALFORMED"]);
  });

  it("never lets time run backwards", () => {
    const time = (second: number): Members => ({ timestamp: `2026-11-22T10:00:0${second}.000Z` });
    expect(found(link(time(1), time(1), time(2)))).toEqual([]);
    expect(found(link(time(1), time(0), time(2)))).toEqual(["2 TIME_BACKWARDS"]);
    expect(found(link(time(1), time(9), time(2), time(3)))).toEqual(["3 TIME_BACKWARDS"]);
  });
});

describe("stored arguments", () => {
  const salt = "000102030405060708090a0b0c0d0e0f";
  const open = lineOf(JSON.parse(OPEN_LINE));
  const changed = (change: Members): string[] => found([open, edit(INTENT_EXPORT, change)]);

  it("are held against their hash", () => {
    expect(changed({})).toEqual([]);
    expect(changed({ args: { path: "src/ä.ts" } })).toEqual(["2 ARGS_MISMATCH"]);
    expect(changed({ args: {} })).toEqual(["2 ARGS_MISMATCH"]);
    expect(changed({ salt: `1${salt.slice(1)}` })).toEqual(["2 ARGS_MISMATCH"]);
    expect(changed({ args: [] })).toEqual(["2 MALFORMED"]);
    expect(changed({ salt: "00" })).toEqual(["2 MALFORMED"]);
  });

  it("may be erased, both or none", () => {
    expect(changed({ args: null, salt: null })).toEqual([]);
    expect(changed({ args: null })).toEqual(["2 ARGS_MISMATCH"]);
    expect(changed({ salt: null })).toEqual(["2 ARGS_MISMATCH"]);
  });

  it("are refused where no hash binds them", () => {
    const first = (change: Members): string[] => found([edit(open, change)]);
    expect(first({ args: {}, salt })).toEqual(["1 ARGS_MISMATCH"]);
    expect(first({ args: {} })).toEqual(["1 ARGS_MISMATCH"]);
    expect(first({ salt })).toEqual(["1 ARGS_MISMATCH"]);
  });

  it("may have keys with escapes, one the beginning of another", () => {
    const lines = link(
      { context: { h: 0, "\\": 0 } },
      { context: { h: 0, '"': 0 } },
      { context: { h: 0, "\n": 0 } },
    );
    for (let i = 0; i < 3; i++) expect(found(lines)).toEqual([]);
  });

  it("may be nested 100,000 levels deep", () => {
    const deep = `{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`;
    expect(
      found([
        open,
        INTENT_EXPORT.replace(/"args":\{.*?\},"args_hash"/, `"args":${deep},"args_hash"`),
      ]),
    ).toEqual(["2 ARGS_MISMATCH"]);
  });
});

describe("intents", () => {
  const intent = { event: "tool_intent", result: "pending" };
  const result = (of: number | null): Members => ({ event: "tool_result", intent_seq: of });
  const close = { event: "session_close" };
  const openOf = (...records: Members[]): [number[], string[]] => {
    const report = verifyLines(link(...records));
    return [report.open_intents, pairs(report)];
  };

  it("have one result each, in any order", () => {
    expect(openOf(intent, intent, result(2), result(1), close)).toEqual([[], []]);
  });

  it("may be open while the session is, and are listed", () => {
    expect(openOf({}, intent, intent, result(3))).toEqual([[2], []]);
  });

  it("have their result once the session is closed", () => {
    expect(openOf({}, intent, intent, close)).toEqual([
      [2, 3],
      ["2 INTENT_OPEN", "3 INTENT_OPEN"],
    ]);
  });

  it("have no second result", () => {
    expect(openOf(intent, result(1), result(1))).toEqual([[], ["3 DUPLICATE_RESULT"]]);
  });

  it("are what a result names, and come before it", () => {
    expect(openOf({}, result(1))).toEqual([[], ["2 INTENT_UNKNOWN"]]);
    expect(openOf({}, result(null))).toEqual([[], ["2 INTENT_UNKNOWN"]]);
    expect(openOf({}, result(2))).toEqual([[], ["2 INTENT_UNKNOWN"]]);
    expect(openOf({}, result(3), intent)).toEqual([[3], ["2 INTENT_UNKNOWN"]]);
  });

  const EVENTS = ["resource_read", "prompt_get", "completion", "client_request", "admin", "x_new"];

  it.each(EVENTS)("are pending records of any event: %s is answered by its own", (event) => {
    const pending = { event, result: "pending" };
    const done = (of: number, more: Members = {}): Members => ({ event, intent_seq: of, ...more });
    expect(openOf(pending, pending, done(2), done(1, { result: "error" }), close)).toEqual([
      [],
      [],
    ]);
    expect(openOf(pending, done(1, { result: "input_required" }), close)).toEqual([[], []]);
    expect(openOf({}, pending)).toEqual([[2], []]);
    expect(openOf({}, pending, close)).toEqual([[2], ["2 INTENT_OPEN"]]);
    expect(openOf(pending, done(1), done(1), close)).toEqual([[], ["3 DUPLICATE_RESULT"]]);
    // One that was refused, or done without an effect, is no pair.
    expect(openOf({ event }, { event, result: "error" }, close)).toEqual([[], []]);
  });

  it("are answered by nothing of another pair", () => {
    const read = { event: "resource_read", result: "pending" };
    expect(openOf(read, result(1), close)).toEqual([[1], ["2 INTENT_UNKNOWN", "1 INTENT_OPEN"]]);
    expect(openOf(read, { event: "prompt_get", intent_seq: 1 }, close)).toEqual([
      [1],
      ["1 INTENT_OPEN"],
    ]);
    expect(openOf(intent, { event: "tool_intent", intent_seq: 1 }, close)[0]).toEqual([1, 2]);
  });

  it("are answered by no record that is itself pending", () => {
    const pending = { result: "pending" };
    expect(openOf(intent, { ...result(1), ...pending }, close)).toEqual([
      [1],
      ["2 RESULT_PENDING", "1 INTENT_OPEN"],
    ]);
    const read = { event: "resource_read", result: "pending" };
    expect(
      openOf(read, { ...read, intent_seq: 1 }, { event: "resource_read", intent_seq: 1 }),
    ).toEqual([[], ["2 RESULT_PENDING"]]);
  });

  it("may be named by other events without being answered", () => {
    expect(openOf(intent, { event: "client_request", intent_seq: 1 })).toEqual([[1], []]);
  });

  it("end with the session", () => {
    expect(openOf(close, {}, {})).toEqual([[], ["2 AFTER_CLOSE"]]);
    expect(openOf(intent, close, result(1))).toEqual([[], ["3 AFTER_CLOSE"]]);
    expect(openOf(close, close)).toEqual([[], ["2 AFTER_CLOSE"]]);
  });

  it("are not held against a record that is reported as changed", () => {
    const lines = link(intent, result(1), intent, result(3), close);
    const changed = (index: number, change: Members): string[] =>
      found(lines.map((line, i) => (i === index ? edit(line, change) : line)));
    expect(changed(0, { event: "tool_call" })).toEqual(["1 HASH_MISMATCH"]);
    expect(changed(1, { event: "tool_call" })).toEqual(["2 HASH_MISMATCH"]);
    expect(changed(3, { intent_seq: 1 })).toEqual(["4 HASH_MISMATCH"]);
    expect(changed(1, { event: "session_close" })).toEqual(["2 HASH_MISMATCH"]);
    expect(changed(4, { event: "tool_call" })).toEqual(["5 HASH_MISMATCH"]);
  });
});

describe("the verifier's code", () => {
  it("imports nothing of a platform, so that a browser can run it", () => {
    const seen = new Set<string>();
    const packages = new Set<string>();
    const read = (url: string): void => {
      if (seen.has(url)) return;
      seen.add(url);
      for (const [, name = ""] of readFileSync(fileURLToPath(url), "utf8").matchAll(
        /from "([^"]+)";/g,
      )) {
        if (name.startsWith(".")) read(new URL(name, url).href);
        else packages.add(name);
      }
    };
    read(new URL("../../src/audit/verify.ts", import.meta.url).href);
    expect(seen.size).toBeGreaterThan(5);
    expect([...packages].sort()).toEqual([
      "@noble/hashes/sha2.js",
      "@noble/hashes/utils.js",
      "canonicalize",
      "zod",
    ]);
  });
});
