/**
 * Random sessions, changed at random: whoever edits, deletes, inserts, moves or
 * exchanges something is found, and found where it was done.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseJson } from "../../src/audit/parse-json.ts";
import { exportLine, type StoredRecord } from "../../src/audit/record.ts";
import { type Finding, verifyLines } from "../../src/audit/verify.ts";
import { json, SESSION, sessions, text } from "./arbitraries.ts";
import { canonical, lineOf, type Members, sha256 } from "./reference.ts";

const RUNS = { numRuns: 200 };
const OTHER = { tenant: "default", session_id: "0199a3c2-7b1f-8abc-9def-ba9876543210" };

const read = (line: string): Members => ({ ...Object(parseJson(line)) });
const findings = (lines: string[], options = {}): Finding[] => {
  const { ok, findings: found } = verifyLines(lines, options).verdicts.integrity;
  expect(ok).toBe(found.length === 0);
  return found;
};
const places = (found: Finding[]): number[] => [...new Set(found.map(({ seq }) => seq))];
const replaced = (lines: string[], index: number, line: string): string[] =>
  lines.toSpliced(index, 1, line);

/** A session's lines and a place in them. */
const placed = (minSteps: number) =>
  fc.tuple(sessions(minSteps), fc.nat()).map(([records, n]) => ({
    records,
    lines: records.map(exportLine),
    index: n % records.length,
  }));

describe("a session as it was written", () => {
  it("verifies, and ends at its head", () => {
    fc.assert(
      fc.property(sessions(1), (records) => {
        const report = verifyLines(records.map(exportLine), SESSION);
        expect(report.verdicts.integrity).toEqual({ ok: true, findings: [] });
        expect(report.open_intents).toEqual([]);
        expect(report.records).toBe(records.length);
        expect(report.head).toBe(records.at(-1)?.hash_chain);
      }),
      RUNS,
    );
  });

  it("verifies after any of its arguments are erased", () => {
    fc.assert(
      fc.property(sessions(2), fc.infiniteStream(fc.boolean()), (records, erase) => {
        const lines = records.map((stored) =>
          exportLine(erase.next().value ? { ...stored, args: null, salt: null } : stored),
        );
        expect(findings(lines, SESSION)).toEqual([]);
      }),
      RUNS,
    );
  });
});

describe("one edit", () => {
  it("of one character is found in its record, and nowhere else", () => {
    fc.assert(
      fc.property(
        placed(2),
        fc.nat(),
        fc.oneof(
          fc.constantFrom("", '"', "\\", "0", "f", "a", ",", "}", " ", "\n"),
          fc.string({ minLength: 1, maxLength: 2 }),
        ),
        ({ lines, index }, n, put) => {
          const line = lines[index] ?? "";
          const at = n % line.length;
          const changed = line.slice(0, at) + put + line.slice(at + 1);
          fc.pre(changed !== line);
          const found = findings(replaced(lines, index, changed), SESSION);
          expect(places(found)).toEqual([index + 1]);
        },
      ),
      { numRuns: 500 },
    );
  });

  it("of any member is found in its record, and nowhere else", () => {
    const values = fc.oneof(
      text,
      json,
      fc.integer(),
      fc.constantFrom(null, "0".repeat(64), "session_close", "tool_result"),
    );
    fc.assert(
      fc.property(placed(2), fc.nat(), values, ({ lines, index }, n, value) => {
        const members = read(lines[index] ?? "");
        const keys = Object.keys(members);
        const key = keys[n % keys.length] ?? "";
        const changed = canonical({ ...members, [key]: value });
        fc.pre(changed !== lines[index]);
        const found = findings(replaced(lines, index, changed), SESSION);
        expect(places(found)).toEqual([index + 1]);
      }),
      { numRuns: 500 },
    );
  });

  it("of a record, hashed anew, breaks the link of the next", () => {
    fc.assert(
      fc.property(placed(3), text, ({ lines, index }, notes) => {
        fc.pre(index < lines.length - 1);
        const { hash_chain: _hash, args, salt, ...record } = read(lines[index] ?? "");
        fc.pre(record.notes !== notes);
        const forged = canonical({
          ...record,
          notes,
          hash_chain: sha256(canonical({ ...record, notes })),
          args,
          salt,
        });
        const found = findings(replaced(lines, index, forged), SESSION);
        expect(found.map(({ seq, code }) => `${seq} ${code}`)).toEqual([
          `${index + 2} LINK_BROKEN`,
        ]);
      }),
      RUNS,
    );
  });

  it("of stored arguments is found in their record", () => {
    fc.assert(
      fc.property(placed(2), json, ({ records, lines, index }, args) => {
        const stored = records[index];
        fc.pre(stored !== undefined && stored.args !== null && canonical(args) !== stored.args);
        const changed: StoredRecord = { ...Object(stored), args: canonical(args) };
        const found = findings(replaced(lines, index, exportLine(changed)), SESSION);
        expect(found.map(({ seq, code }) => `${seq} ${code}`)).toEqual([
          `${index + 1} ARGS_MISMATCH`,
        ]);
      }),
      RUNS,
    );
  });

  it("cannot bring arguments from one record to another", () => {
    fc.assert(
      fc.property(placed(3), fc.nat(), ({ records, lines, index }, n) => {
        const from = records[n % records.length];
        const to = records[index];
        fc.pre(
          from !== undefined && to !== undefined && from.salt !== null && from.salt !== to.salt,
        );
        const { args, salt } = Object(from);
        const found = findings(replaced(lines, index, exportLine({ ...Object(to), args, salt })));
        expect(found.map(({ seq, code }) => `${seq} ${code}`)).toEqual([
          `${index + 1} ARGS_MISMATCH`,
        ]);
      }),
      RUNS,
    );
  });
});

describe("a record", () => {
  it("that is missing is found where it was, unless it was the last", () => {
    fc.assert(
      fc.property(placed(3), fc.integer({ min: 1, max: 3 }), ({ lines, index }, count) => {
        fc.pre(index + count < lines.length);
        const found = findings(lines.toSpliced(index, count), SESSION);
        expect(found[0]).toMatchObject({ seq: index + 1, code: "SEQ_GAP" });
        expect(found[1]).toMatchObject({ seq: index + count + 1, code: "LINK_BROKEN" });
      }),
      RUNS,
    );
  });

  it("that was put in is found there, be it a copy, foreign, or made to fit", () => {
    fc.assert(
      fc.property(
        placed(3),
        fc.nat(),
        sessions(3, OTHER),
        fc.constantFrom("copy", "foreign", "fitting"),
        ({ records, lines, index }, n, others, kind) => {
          const from = (kind === "foreign" ? others : records)[n % records.length] ?? others[0];
          fc.pre(from !== undefined);
          const members = read(Object(from).line);
          const before = records[index - 1];
          const line =
            kind === "fitting" && before !== undefined
              ? lineOf({
                  ...members,
                  notes: "forged",
                  seq: index + 1,
                  prev_hash: before.hash_chain,
                })
              : exportLine(Object(from));
          const found = findings(lines.toSpliced(index, 0, line), SESSION);
          const first = found[0]?.seq ?? 0;
          expect([members.seq, index + 1, index + 2]).toContain(first);
        },
      ),
      RUNS,
    );
  });

  it("that changed places with another is found at the first of the two", () => {
    fc.assert(
      fc.property(placed(3), fc.nat(), ({ lines, index }, n) => {
        const other = n % lines.length;
        fc.pre(other !== index);
        const swapped = lines.with(index, lines[other] ?? "").with(other, lines[index] ?? "");
        expect(findings(swapped, SESSION)[0]).toMatchObject({
          seq: Math.min(index, other) + 1,
          code: "SEQ_GAP",
        });
      }),
      RUNS,
    );
  });
});

describe("a whole session", () => {
  it("cannot be passed off as another, even when its records are hashed anew", () => {
    fc.assert(
      fc.property(sessions(2), (records) => {
        let prev: unknown = read(records[0]?.line ?? "").prev_hash;
        const moved = records.map(({ line }) => {
          const record = { ...read(line), ...OTHER, prev_hash: prev };
          prev = sha256(canonical(record));
          return canonical({ ...record, hash_chain: prev, args: null, salt: null });
        });
        expect(findings(moved, OTHER).map(({ seq, code }) => `${seq} ${code}`)).toEqual([
          "1 GENESIS_MISMATCH",
        ]);
      }),
      RUNS,
    );
  });

  it("is not the one asked for when it is another's", () => {
    fc.assert(
      fc.property(sessions(1, OTHER), (records) => {
        const found = findings(records.map(exportLine), SESSION);
        expect(found.map(({ seq, code }) => `${seq} ${code}`)).toEqual(["1 SESSION_MISMATCH"]);
      }),
    );
  });

  it("does not take the tail of another", () => {
    fc.assert(
      fc.property(placed(3), sessions(8, OTHER), ({ lines, index }, others) => {
        fc.pre(0 < index && index < others.length);
        const mixed = [...lines.slice(0, index), ...others.slice(index).map(exportLine)];
        const found = findings(mixed, SESSION);
        expect(found.map(({ seq, code }) => `${seq} ${code}`)).toContain(
          `${index + 1} LINK_BROKEN`,
        );
        expect(found.map(({ seq, code }) => `${seq} ${code}`)).toContain(
          `${index + 1} SESSION_MISMATCH`,
        );
      }),
    );
  });
});
