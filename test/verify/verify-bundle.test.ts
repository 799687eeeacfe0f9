import { beforeAll, describe, expect, it } from "vitest";
import type { Report } from "../../src/audit/report.ts";
import { createVerifier } from "../../src/audit/verify.ts";
import { TIME_TOLERANCE_SECONDS } from "../../src/log/cosignature.ts";
import { LogUnreadable } from "../../src/log/reader.ts";
import { parseBundle } from "../../src/verify/bundle.ts";
import { parseReceipts } from "../../src/verify/receipts.ts";
import { type Trust, verifyBundle } from "../../src/verify/verify-bundle.ts";
import {
  bundleText,
  hashAt,
  leafOf,
  policyOf,
  read,
  START_MS,
  sessionLines,
  TestLog,
  type Witness,
  witness,
} from "./gateway.ts";

const ID = "0199a3c2-7b1f-8abc-9def-0123456789ab";
const OTHER = "0199a3c2-7b1f-8abc-9def-ba9876543210";
const LINES = sessionLines(ID, 8);
const OTHERS = sessionLines(OTHER, 3);

type Name = keyof Report["verdicts"];
const okOf = (report: Report, name: Name) => report.verdicts[name].ok;
const codes = (report: Report, name: Name) =>
  report.verdicts[name].findings.map(({ seq, code }) => `${seq} ${code}`);

let log: TestLog;
let early: string;
let one: Witness;
let two: Witness;
let trust: Trust;

beforeAll(async () => {
  [one, two] = [await witness(11), await witness(12)];
  log = await TestLog.create();
  await log.commit([leafOf(OTHER, OTHERS, "open", 1)], [one, two], START_MS);
  early = log.checkpoint;
  await log.commit(
    [leafOf(ID, LINES, "open", 1, START_MS + 1000), leafOf(ID, LINES, "head", 3, START_MS + 1000)],
    [one, two],
    START_MS + 2000,
  );
  await log.commit([leafOf(OTHER, OTHERS, "head", 3, START_MS + 2500)], [one], START_MS + 3000);
  await log.commit([leafOf(ID, LINES, "head", 6, START_MS + 4000)], [one, two], START_MS + 5000);
  const receipts = [2, 6].map((seq) => ({ session_id: ID, seq, hash_chain: hashAt(LINES, seq) }));
  trust = {
    vkeys: [log.vkey],
    policy: policyOf([one, two], 2),
    since: early,
    log: log.reader(),
    receipts,
  };
});

describe("a session as it was", () => {
  it("holds in all five verdicts, and says how many records came after the newest leaf", async () => {
    for (const all of [false, true]) {
      const report = await verifyBundle(log.bundle(ID, LINES, all), trust);
      expect(report).toEqual({
        session_id: ID,
        records: 8,
        head: hashAt(LINES, 8),
        unanchored: 2,
        open_intents: [],
        receipts: { ok: true, findings: [] },
        verdicts: {
          integrity: { ok: true, findings: [] },
          anchored: { ok: true, findings: [] },
          completeness: { ok: true, findings: [] },
          independence: { ok: true, findings: [] },
          time: { ok: true, findings: [] },
        },
      });
    }
  });

  it("is not judged by keys, logs and witnesses that nobody gave", async () => {
    const report = await verifyBundle(log.bundle(ID, LINES));
    expect(okOf(report, "integrity")).toBe(true);
    expect(codes(report, "anchored")).toEqual(["0 VKEY_NEEDED"]);
    expect(codes(report, "completeness")).toEqual(["0 LOG_NEEDED"]);
    expect(codes(report, "independence")).toEqual(["0 NO_OUTSIDER"]);
    expect(codes(report, "time")).toEqual(["0 POLICY_NEEDED"]);
    for (const name of ["anchored", "completeness", "independence", "time"] as const) {
      expect(okOf(report, name)).toBeNull();
    }
    expect(report.unanchored).toBe(8);
    expect(report.receipts).toBeUndefined();
  });

  it("cannot be said to be anchored before anything is", async () => {
    const report = await verifyBundle(read(bundleText(ID, LINES, null)), { vkeys: [log.vkey] });
    expect([okOf(report, "integrity"), okOf(report, "anchored")]).toEqual([true, null]);
    expect(report.unanchored).toBe(8);
  });

  it("is judged with the log's key of the policy where no other is given", async () => {
    const policy = { ...policyOf([one], 1), logs: [{ key: log.vkey, url: null }] };
    const report = await verifyBundle(log.bundle(ID, LINES), { policy });
    expect([okOf(report, "anchored"), okOf(report, "independence")]).toEqual([true, true]);
  });

  it("is complete in a log of several tiles", async () => {
    const large = await TestLog.create(7);
    const filler = Array.from({ length: 700 }, (_, i) =>
      leafOf(`filler-${i}`, sessionLines(`filler-${i}`, 1), "open", 1),
    );
    await large.commit([...filler.slice(0, 300), leafOf(ID, LINES, "open", 1)]);
    const since = large.checkpoint;
    await large.commit([...filler.slice(300), leafOf(ID, LINES, "head", 8)]);
    const report = await verifyBundle(large.bundle(ID, LINES), {
      vkeys: [large.vkey],
      since,
      log: large.reader(),
    });
    expect(report.unanchored).toBe(0);
    for (const name of ["anchored", "completeness", "independence"] as const) {
      expect(okOf(report, name)).toBe(true);
    }
  });

  it("holds against a log that has grown since, and one whose old partial tiles are gone", async () => {
    const bundle = log.bundle(ID, LINES);
    const grown = log.rolledBack(log.size);
    await grown.commit(
      Array.from({ length: 300 }, (_, i) =>
        leafOf(`later-${i}`, sessionLines(`later-${i}`, 1), "open", 1, START_MS + 6000),
      ),
    );
    const report = await verifyBundle(bundle, { ...trust, log: grown.reader() });
    expect([okOf(report, "completeness"), okOf(report, "independence")]).toEqual([true, true]);
  });
});

describe("what cannot be said", () => {
  it("is null where the log cannot be read, or shows less than the bundle", async () => {
    const broken: Trust = {
      ...trust,
      log: {
        checkpoint: async () => log.checkpoint,
        tile: async () => {
          throw new LogUnreadable("connection refused");
        },
      },
    };
    const unreadable = await verifyBundle(log.bundle(ID, LINES), broken);
    expect(codes(unreadable, "completeness")).toEqual(["0 LOG_UNREADABLE"]);
    expect(okOf(unreadable, "completeness")).toBeNull();
    expect(okOf(unreadable, "independence")).toBeNull();

    const behind = await verifyBundle(log.bundle(ID, LINES), {
      vkeys: [log.vkey],
      log: log.rolledBack(3).reader(),
    });
    expect(codes(behind, "completeness")).toEqual(["0 LOG_BEHIND"]);
    expect(okOf(behind, "completeness")).toBeNull();
  });

  it("is null for an old checkpoint that is not the log's, and without the log between two sizes", async () => {
    const foreign = await TestLog.create(9);
    await foreign.commit([leafOf(OTHER, OTHERS, "open", 1)]);
    const bundle = log.bundle(ID, LINES);
    const other = await verifyBundle(bundle, { vkeys: [log.vkey], since: foreign.checkpoint });
    expect(codes(other, "independence")).toEqual(["0 CHECKPOINT_UNKNOWN_KEY"]);
    expect(okOf(other, "independence")).toBeNull();
    const alone = await verifyBundle(bundle, { vkeys: [log.vkey], since: early });
    expect(codes(alone, "independence")).toEqual(["0 LOG_NEEDED"]);
    const same = await verifyBundle(bundle, { vkeys: [log.vkey], since: log.checkpoint });
    expect(okOf(same, "independence")).toBe(true);
  });

  it("is null for a policy that wants nobody, and for receipts of other sessions", async () => {
    const receipts = [{ session_id: OTHER, seq: 1, hash_chain: hashAt(OTHERS, 1) }];
    const report = await verifyBundle(log.bundle(ID, LINES), {
      vkeys: [log.vkey],
      policy: policyOf([one], "none"),
      receipts,
    });
    expect(codes(report, "independence")).toEqual(["0 POLICY_WITHOUT_QUORUM"]);
    expect(codes(report, "anchored")).toEqual(["0 NO_RECEIPT"]);
    expect([okOf(report, "independence"), okOf(report, "anchored")]).toEqual([null, null]);
  });

  it("is null for times that no known witness gave", async () => {
    const policy = policyOf([await witness(99)], 1);
    const report = await verifyBundle(log.bundle(ID, LINES), { vkeys: [log.vkey], policy });
    expect(codes(report, "time")).toEqual(["0 NO_COSIGNED_TIME"]);
    expect(codes(report, "independence")).toEqual(["0 NO_QUORUM"]);
    expect(okOf(report, "independence")).toBe(false);
  });
});

describe("time", () => {
  const at = async (ms: number): Promise<Report> => {
    const timed = await TestLog.create();
    await timed.commit([leafOf(OTHER, OTHERS, "open", 1)], [one], START_MS);
    await timed.commit([leafOf(ID, LINES, "open", 1, ms)], [one], START_MS + 10_000);
    return verifyBundle(timed.bundle(ID, LINES), {
      vkeys: [timed.vkey],
      policy: policyOf([one], 1),
    });
  };
  const tolerance = TIME_TOLERANCE_SECONDS * 1000;

  it("finds a leaf that says an earlier or a later time than its witnesses", async () => {
    expect(codes(await at(START_MS - tolerance - 1), "time")).toEqual(["1 TIME_TOO_EARLY"]);
    expect(codes(await at(START_MS + 10_000 + tolerance + 1), "time")).toEqual(["1 TIME_TOO_LATE"]);
    expect(okOf(await at(START_MS - tolerance), "time")).toBe(true);
    expect(okOf(await at(START_MS + 10_000 + tolerance), "time")).toBe(true);
  });

  it("says what a witness said, also where it is past every date", async () => {
    const timed = await TestLog.create();
    const seconds = 8_640_000_000_001;
    await timed.commit([leafOf(OTHER, OTHERS, "open", 1)], [one], seconds * 1000);
    await timed.commit([leafOf(ID, LINES, "open", 1)], [one], START_MS);
    const own = { vkeys: [timed.vkey], policy: policyOf([one], 1) };
    const { time } = (await verifyBundle(timed.bundle(ID, LINES), own)).verdicts;
    expect(time.findings).toMatchObject([
      { seq: 1, code: "TIME_TOO_EARLY", message: expect.stringContaining(`second ${seconds}`) },
    ]);
  });

  it("refuses bounds that do not enclose the leaf, and checkpoints of another log", async () => {
    const moved = log.bundleLog(ID);
    const [leaf] = moved.leaves;
    if (leaf === undefined) throw new Error("no leaf");
    const swapped = [{ ...leaf, before: leaf.after, after: leaf.before }];
    const misplaced = read(bundleText(ID, LINES, { ...moved, leaves: swapped }));
    expect(codes(await verifyBundle(misplaced, trust), "time")).toEqual(["0 BOUND_MISPLACED"]);
    const foreign = await TestLog.create(9, "other.example/log");
    const note = await foreign.commit([leafOf(OTHER, OTHERS, "open", 1)], [one], 0);
    const otherSize = await log.rotated(9);
    otherSize.entries.push(...log.entries);
    for (const bound of [
      note,
      await otherSize.publish([one], 0),
      log.checkpoint,
      early.replace("\u2014 gate.example/log ", "\u2014 gate.example/log A"),
      early.replace("\n1\n", "\n01\n"),
      early.replace(/\n1\n.{4}/, "\n1\nAAAA"),
      "",
    ]) {
      const checkpoints = { ...moved.checkpoints, 1: bound };
      const changed = read(bundleText(ID, LINES, { ...moved, checkpoints }));
      expect(codes(await verifyBundle(changed, trust), "time")).toEqual(["0 BOUND_NOT_SIGNED"]);
    }
  });

  it("is that of the bounds whose key was given, after the log's key was changed", async () => {
    const rotated = await log.rotated(2);
    await rotated.commit(
      [leafOf(OTHER, OTHERS, "head", 3, START_MS + 6000)],
      [one],
      START_MS + 6000,
    );
    const bundle = rotated.bundle(ID, LINES, true);
    const policy = policyOf([one], 1);
    const judged = async (...vkeys: TestLog[]) =>
      verifyBundle(bundle, { vkeys: vkeys.map(({ vkey }) => vkey), policy, log: rotated.reader() });
    const both = await judged(log, rotated);
    expect(both.verdicts.time).toEqual({ ok: true, findings: [] });
    const current = await judged(rotated);
    expect([okOf(current, "anchored"), okOf(current, "independence")]).toEqual([true, true]);
    expect(okOf(current, "time")).toBeNull();
    expect(codes(current, "time")).toEqual(["0 NO_COSIGNED_TIME"]);
    // The bounds that are there still count.
    await rotated.commit([leafOf(ID, LINES, "close", 8, START_MS + 7000)], [one], START_MS + 7000);
    const later = await verifyBundle(rotated.bundle(ID, LINES), { vkeys: [rotated.vkey], policy });
    expect(later.verdicts.time).toEqual({ ok: true, findings: [] });
  });
});

describe("a bundle's form", () => {
  const text = () => log.bundleText(ID, LINES);
  const refusal = (changed: string): string => {
    const parsed = parseBundle(changed);
    return parsed.ok ? "accepted" : parsed.message;
  };

  it("may be laid out in any way", () => {
    expect(refusal(JSON.stringify(JSON.parse(text()), null, 2))).toBe("accepted");
  });

  it("refuses a key that is there twice, also one written with an escape", () => {
    expect(refusal(text().replace('"tenant":', '"tenant":"x","tenant":'))).toMatch(/twice/);
    expect(refusal(text().replace('"principal":', '"pr\\u0069ncipal":"x","principal":'))).toMatch(
      /twice/,
    );
  });

  it("refuses numbers that JavaScript would round", () => {
    expect(refusal(text().replace('"seq":2,', '"seq":9007199254740993,'))).toMatch(/number/);
    expect(refusal(text().replace('"seq":2,', '"seq":2.0000000000000000001,'))).toMatch(/number/);
    expect(refusal(text().replace('"index":1,', '"index":1.5,'))).toMatch(/index/);
  });

  it("refuses loose base64, unknown members, other formats and what is no JSON", () => {
    const proof = log.bundleLog(ID).leaves[0]?.proof[0] ?? "";
    expect(refusal(text().replace(proof, proof.replace("=", "")))).toMatch(/base64/);
    expect(refusal(text().replace(proof, ` ${proof}`))).toMatch(/base64/);
    expect(refusal(text().replace('"tenant":', '"more":1,"tenant":'))).toMatch(/more/i);
    expect(refusal(text().replace("bundle/v1", "bundle/v2"))).toMatch(/format/);
    expect(refusal(text().slice(1))).toMatch(/JSON/);
    expect(refusal(LINES.join("\n"))).toMatch(/JSON/);
    expect(refusal("[]")).toMatch(/not a bundle/);
    expect(refusal("")).toMatch(/JSON/);
    expect(refusal(text().replace(/"records":\[/, '"records":["x",'))).toMatch(/records/);
  });

  it("never calls an empty one valid", async () => {
    const empty = read(bundleText(ID, [], null));
    const report = await verifyBundle(empty, trust);
    expect([report.records, okOf(report, "integrity")]).toEqual([0, false]);
    expect(codes(report, "integrity")).toEqual(["0 EMPTY"]);
    expect(createVerifier().finish().verdicts.integrity.ok).toBe(false);
  });
});

describe("receipts", () => {
  it("are read from an array, one object, or lines", () => {
    const receipt = { session_id: ID, seq: 2, hash_chain: hashAt(LINES, 2) };
    const line = JSON.stringify(receipt);
    for (const text of [line, `[${line}]`, `${line}\n`]) {
      expect(parseReceipts(text)).toEqual([receipt]);
    }
    expect(parseReceipts(`${line}\n\n${line}\n`)).toEqual([receipt, receipt]);
  });

  it("are refused when there are none, or one is not whole", () => {
    for (const text of ["", "[]", "{}", '{"session_id":"x","seq":0,"hash_chain":""}', "x"]) {
      expect(typeof parseReceipts(text)).toBe("string");
    }
  });
});
