/**
 * @module
 * What an operator who holds every store and the signing key can do to a
 * session, and the verdict that shows it.
 */
import { beforeAll, describe, expect, it } from "vitest";
import type { Report } from "../../src/audit/report.ts";
import { type Trust, verifyBundle } from "../../src/verify/verify-bundle.ts";
import { canonical, linkRecords, type Members } from "../audit/reference.ts";
import {
  bundleText,
  hashAt,
  leafOf,
  policyOf,
  read,
  START_MS,
  sessionLines,
  TENANT,
  TestLog,
  type Witness,
  witness,
} from "./gateway.ts";

const ID = "0199a3c2-7b1f-8abc-9def-0123456789ab";
const OTHER = "0199a3c2-7b1f-8abc-9def-ba9876543210";
const LINES = sessionLines(ID, 6);
const OTHERS = sessionLines(OTHER, 6);
const NAMES = ["integrity", "anchored", "completeness", "independence", "time"] as const;

/** The log with the session's `open` at 1 and heads at 3 and 6, and another session's leaves between. */
async function honestLog(witnesses: Witness[]): Promise<TestLog> {
  const log = await TestLog.create();
  await log.commit([leafOf(OTHER, OTHERS, "open", 1)], witnesses);
  await log.commit([leafOf(ID, LINES, "open", 1), leafOf(ID, LINES, "head", 3)], witnesses);
  await log.commit([leafOf(OTHER, OTHERS, "head", 4)], witnesses);
  await log.commit([leafOf(ID, LINES, "head", 6)], witnesses);
  return log;
}

let log: TestLog;
let watcher: Witness;
let trust: Trust;

beforeAll(async () => {
  watcher = await witness(11);
  log = await honestLog([watcher]);
  trust = { vkeys: [log.vkey], log: log.reader() };
});

/** What each false verdict says. */
function detected(report: Report): Record<string, string[]> {
  const found: Record<string, string[]> = {};
  for (const name of NAMES) {
    const { ok, findings } = report.verdicts[name];
    if (ok === false) found[name] = findings.map(({ seq, code }) => `${seq} ${code}`);
  }
  return found;
}

const judge = async (lines: readonly string[], other: Partial<Trust> = {}, bundleLog?: unknown) =>
  detected(
    await verifyBundle(
      read(bundleText(ID, lines, bundleLog === undefined ? log.bundleLog(ID) : bundleLog)),
      {
        ...trust,
        ...other,
      },
    ),
  );

const without = (lines: readonly string[], seq: number) => lines.filter((_, i) => i !== seq - 1);
const edited = (line = "", change: Members = { notes: "x" }) =>
  canonical({ ...JSON.parse(line), ...change });
/** The records chained anew, as whoever holds all the stores can. */
function relinked(lines: readonly string[]): string[] {
  return linkRecords(
    TENANT,
    ID,
    lines.map((line) => {
      const {
        hash_chain: _h,
        args: _a,
        salt: _s,
        seq: _n,
        prev_hash: _p,
        ...rest
      } = JSON.parse(line);
      return rest;
    }),
  );
}

describe("records changed in one store", () => {
  it("edit: integrity, and the record in the log is another", async () => {
    const middle = LINES.with(1, edited(LINES[1]));
    expect(await judge(middle)).toEqual({ integrity: ["2 HASH_MISMATCH"] });
    const anchored = LINES.with(2, edited(LINES[2]));
    expect(await judge(anchored)).toEqual({
      integrity: ["3 HASH_MISMATCH"],
      completeness: ["3 ANCHOR_MISMATCH"],
    });
  });

  it("delete, insert, reorder: integrity", async () => {
    expect((await judge(without(LINES, 4))).integrity).toEqual(["4 SEQ_GAP", "5 LINK_BROKEN"]);
    const inserted = [...LINES.slice(0, 3), LINES[2] ?? "", ...LINES.slice(3)];
    expect((await judge(inserted)).integrity).toContain("3 SEQ_GAP");
    const [a = "", b = ""] = [LINES[3], LINES[4]];
    expect((await judge(LINES.with(3, b).with(4, a))).integrity).toBeDefined();
  });
});

describe("records changed in all stores and chained anew", () => {
  const changes: Record<string, string[]> = {
    edit: relinked(LINES.with(1, edited(LINES[1]))),
    delete: relinked(without(LINES, 2)),
    insert: relinked([...LINES.slice(0, 2), edited(LINES[1]), ...LINES.slice(2)]),
    reorder: relinked(LINES.with(1, edited(LINES[2])).with(2, edited(LINES[1]))),
  };

  it.each(Object.keys(changes))("%s: anchored", async (name) => {
    const found = await judge(changes[name] ?? []);
    expect(found.integrity).toBeUndefined();
    expect(found.anchored?.length).toBeGreaterThan(0);
    expect(found.completeness?.length).toBeGreaterThan(0);
  });

  it("after the newest leaf: nothing but a receipt shows it", async () => {
    const short = await TestLog.create();
    await short.commit([leafOf(ID, LINES, "open", 1)]);
    const changed = relinked(LINES.with(5, edited(LINES[5])));
    const bundle = read(bundleText(ID, changed, short.bundleLog(ID)));
    const receipts = [{ session_id: ID, seq: 6, hash_chain: hashAt(LINES, 6) }];
    const own = { vkeys: [short.vkey], log: short.reader() };
    const report = await verifyBundle(bundle, own);
    expect([detected(report), report.unanchored]).toEqual([{}, 5]);
    expect(detected(await verifyBundle(bundle, { ...own, receipts }))).toEqual({
      anchored: ["6 RECEIPT_MISMATCH"],
    });
  });
});

describe("records left out", () => {
  it("cut tail: anchored by the newest leaf", async () => {
    expect((await judge(LINES.slice(0, 4))).anchored).toEqual(["6 TAIL_CUT"]);
  });

  it("cut tail with the leaf that shows it left out: completeness", async () => {
    const { leaves, ...rest } = log.bundleLog(ID, true);
    const found = await judge(LINES.slice(0, 4), {}, { ...rest, leaves: leaves.slice(0, 2) });
    expect(found).toEqual({ completeness: ["6 TAIL_CUT"] });
  });

  it("cut tail with an old checkpoint: completeness goes to the newest", async () => {
    const old = log.rolledBack(3);
    expect(await judge(LINES.slice(0, 4), {}, old.bundleLog(ID))).toEqual({
      completeness: ["6 TAIL_CUT"],
    });
  });

  it("tells a bundle that may only be older than the log from one that was cut", async () => {
    const messageOf = async (bundleLog: unknown) => {
      const bundle = read(bundleText(ID, LINES.slice(0, 4), bundleLog));
      const { findings } = (await verifyBundle(bundle, trust)).verdicts.completeness;
      expect(findings.map(({ seq, code }) => `${seq} ${code}`)).toEqual(["6 TAIL_CUT"]);
      return findings[0]?.message ?? "";
    };
    const older = /the bundle is older than the log, or was cut; take a new one/;
    expect(await messageOf(log.rolledBack(3).bundleLog(ID))).toMatch(older);
    expect(await messageOf(null)).toMatch(older);
    // The checkpoint that came with the records has the leaf already.
    expect(await messageOf(log.bundleLog(ID))).not.toMatch(older);
  });

  it("records after the end: anchored by the closing leaf", async () => {
    const closed = await TestLog.create();
    await closed.commit([leafOf(ID, LINES, "open", 1), leafOf(ID, LINES, "close", 5)]);
    const bundle = closed.bundle(ID, LINES);
    expect(detected(await verifyBundle(bundle, { vkeys: [closed.vkey] }))).toEqual({
      anchored: ["5 AFTER_CLOSE"],
    });
  });

  it("deleted session: completeness, though nothing of it is left", async () => {
    const found = await judge([], {}, null);
    expect(found).toEqual({
      integrity: ["0 EMPTY"],
      completeness: ["1 SESSION_DELETED", "3 SESSION_DELETED", "6 SESSION_DELETED"],
    });
  });
});

describe("leaves dated otherwise, by whoever writes the log", () => {
  const DAY_MS = 86_400_000;
  const leafAt = (id: string, lines: readonly string[], ms: number, seq = 1) =>
    leafOf(id, lines, seq === 1 ? "open" : "head", seq, START_MS + ms);

  it("back, with an older checkpoint named as the one before: completeness", async () => {
    const dated = await TestLog.create();
    await dated.commit([leafAt(OTHER, OTHERS, -90 * DAY_MS)], [watcher], START_MS - 90 * DAY_MS);
    await dated.commit([leafAt(OTHER, OTHERS, 0, 2)], [watcher], START_MS);
    await dated.commit([leafAt(ID, LINES, -60 * DAY_MS)], [watcher], START_MS + 1000);
    const honest = dated.bundleLog(ID);
    const own: Partial<Trust> = {
      vkeys: [dated.vkey],
      log: dated.reader(),
      policy: policyOf([watcher], 1),
    };
    expect(await judge(LINES, own, honest)).toEqual({
      completeness: ["1 TIME_BACKWARDS"],
      time: ["1 TIME_TOO_EARLY"],
    });
    const widened = {
      ...honest,
      leaves: honest.leaves.map((leaf) => ({ ...leaf, before: 1 })),
      checkpoints: { ...honest.checkpoints, 1: dated.checkpoints.get(1) },
    };
    expect(await judge(LINES, own, widened)).toEqual({ completeness: ["1 TIME_BACKWARDS"] });
  });

  it("back with the leaves before it, or forward: completeness", async () => {
    const both = await TestLog.create();
    await both.commit([leafAt("a", OTHERS, 0)]);
    await both.commit([leafAt(OTHER, OTHERS, -DAY_MS), leafAt(ID, LINES, -DAY_MS)]);
    const found = async (own: TestLog) =>
      judge(LINES, { vkeys: [own.vkey], log: own.reader() }, own.bundleLog(ID));
    expect(await found(both)).toEqual({ completeness: ["1 TIME_BACKWARDS"] });
    const forward = await TestLog.create();
    await forward.commit([leafAt(ID, LINES, DAY_MS)]);
    await forward.commit([leafAt(OTHER, OTHERS, 0), leafAt(OTHER, OTHERS, 0, 2)]);
    expect(await found(forward)).toEqual({ completeness: ["0 TIME_BACKWARDS"] });
  });

  it("in other sessions alone: nothing is said of this one", async () => {
    const other = await TestLog.create();
    await other.commit([leafAt(OTHER, OTHERS, 0), leafAt("a", OTHERS, -DAY_MS)]);
    await other.commit([leafAt(ID, LINES, 1000), leafAt(ID, LINES, 1000, 6)]);
    const own = { vkeys: [other.vkey], log: other.reader() };
    expect(await judge(LINES, own, other.bundleLog(ID))).toEqual({});
  });
});

describe("the log's part of a bundle changed", () => {
  it("a leaf of another session, a key's leaf, and one that is none: anchored", async () => {
    const mine = log.bundleLog(ID);
    const others = log.bundleLog(OTHER).leaves;
    const found = await judge(LINES, {}, { ...mine, leaves: [...mine.leaves, ...others] });
    expect(found.anchored).toContain("0 LEAF_OF_ANOTHER_SESSION");
    const [first] = mine.leaves;
    const loose = { ...first, entry: ` ${first?.entry}` };
    expect((await judge(LINES, {}, { ...mine, leaves: [loose] })).anchored).toEqual([
      "0 LEAF_MALFORMED",
      "0 OPEN_MISSING",
    ]);
  });

  it("a leaf made up, moved or with another's proof: anchored", async () => {
    const mine = log.bundleLog(ID);
    const [open, head] = mine.leaves;
    const entry = head?.entry.replace('"seq":6', '"seq":5');
    for (const changed of [
      { ...head, entry },
      { ...head, index: 3 },
      { ...head, proof: open?.proof },
      { ...head, proof: [] },
    ]) {
      const found = await judge(LINES, {}, { ...mine, leaves: [open, changed] });
      expect(found.anchored?.[0]).toMatch(/LEAF_NOT_INCLUDED/);
    }
  });

  it("no leaf, none that opens, and leaves out of order: anchored", async () => {
    const mine = log.bundleLog(ID, true);
    expect((await judge(LINES, {}, { ...mine, leaves: [] })).anchored).toEqual(["0 OPEN_MISSING"]);
    const headless = { ...mine, leaves: mine.leaves.slice(1) };
    expect((await judge(LINES, {}, headless)).anchored).toEqual(["0 OPEN_MISSING"]);
    const turned = { ...mine, leaves: mine.leaves.toReversed() };
    expect((await judge(LINES, {}, turned)).anchored).toContain("3 LEAF_ORDER");
  });

  it("a checkpoint of another origin, of another key, changed, or none: anchored", async () => {
    const mine = log.bundleLog(ID);
    const elsewhere = await TestLog.create(1, "other.example/log");
    elsewhere.entries.push(...log.entries);
    const found = async (checkpoint: string, vkeys = [log.vkey]) =>
      (await judge(LINES, { vkeys, log: undefined }, { ...mine, checkpoint })).anchored;
    expect(await found(await elsewhere.publish())).toEqual(["0 CHECKPOINT_UNKNOWN_KEY"]);
    expect(await found(elsewhere.checkpoint, [elsewhere.vkey])).toContain(
      "0 CHECKPOINT_OTHER_ORIGIN",
    );
    const forged = await TestLog.create(2);
    forged.entries.push(...log.entries);
    expect(await found(await forged.publish())).toEqual(["0 CHECKPOINT_UNKNOWN_KEY"]);
    const larger = log.checkpoint.replace("\n5\n", "\n6\n");
    expect(await found(larger)).toEqual(["0 CHECKPOINT_BAD_SIGNATURE"]);
    expect(await found("nothing")).toEqual(["0 CHECKPOINT_MALFORMED"]);
  });

  it("keys named by the bundle itself do not count", async () => {
    const forged = await TestLog.create(2);
    const changed = relinked(LINES.with(1, edited(LINES[1])));
    await forged.commit([leafOf(ID, changed, "open", 1), leafOf(ID, changed, "head", 6)]);
    expect((await judge(changed, {}, forged.bundleLog(ID))).anchored).toEqual([
      "0 CHECKPOINT_UNKNOWN_KEY",
    ]);
  });

  it("another session's records under this session's name: integrity and anchored", async () => {
    const found = await judge(OTHERS);
    expect(found.integrity).toContain("1 SESSION_MISMATCH");
    expect(found.anchored).toBeDefined();
  });
});

describe("everything rewritten, and signed with the real key", () => {
  const changed = relinked(LINES.with(1, edited(LINES[1])));

  async function rewrite(): Promise<TestLog> {
    const rewritten = await TestLog.create();
    await rewritten.commit([leafOf(OTHER, OTHERS, "open", 1)]);
    await rewritten.commit([leafOf(ID, changed, "open", 1), leafOf(ID, changed, "head", 6)]);
    await rewritten.commit([leafOf(OTHER, OTHERS, "head", 4)]);
    await rewritten.commit([leafOf(OTHER, OTHERS, "head", 6)]);
    return rewritten;
  }
  const against = async (other: Partial<Trust>): Promise<Record<string, string[]>> => {
    const rewritten = await rewrite();
    const own = { vkeys: [rewritten.vkey], log: rewritten.reader(), ...other };
    return detected(await verifyBundle(rewritten.bundle(ID, changed), own));
  };

  it("is shown by nothing that the operator holds", async () => {
    expect(await against({})).toEqual({});
  });

  it("is shown by a checkpoint of the same size, an older and a newer one", async () => {
    for (const size of [5, 3]) {
      const since = log.checkpoints.get(size);
      expect(await against({ since })).toEqual({ independence: ["0 FORK"] });
    }
    const larger = await honestLog([]);
    await larger.commit([leafOf(OTHER, OTHERS, "head", 6)]);
    expect(await against({ since: larger.checkpoint })).toEqual({
      independence: ["0 LOG_ROLLED_BACK"],
    });
  });

  it("is shown by the missing cosignature of a witness", async () => {
    expect(await against({ policy: policyOf([watcher], 1) })).toEqual({
      independence: ["0 NO_QUORUM"],
    });
  });

  it("is shown by a client's receipt", async () => {
    const receipts = [{ session_id: ID, seq: 2, hash_chain: hashAt(LINES, 2) }];
    expect(await against({ receipts })).toEqual({ anchored: ["2 RECEIPT_MISMATCH"] });
  });
});

describe("restored to an older state", () => {
  it("the session: its tail is in the log", async () => {
    const regrown = relinked([...LINES.slice(0, 2), ...LINES.slice(0, 2), ...LINES.slice(0, 2)]);
    const found = await judge([...LINES.slice(0, 2), ...regrown.slice(2)]);
    expect(found.anchored).toContain("6 ANCHOR_MISMATCH");
  });

  it("the log: behind a checkpoint that it had signed", async () => {
    const back = log.rolledBack(3);
    const reader = { log: back.reader() };
    expect(await judge(LINES, { ...reader, since: log.checkpoint }, back.bundleLog(ID))).toEqual({
      independence: ["0 LOG_ROLLED_BACK"],
    });
  });

  it("the log, and then grown another way: a fork", async () => {
    const fork = log.rolledBack(3);
    await fork.commit([leafOf(OTHER, OTHERS, "head", 2)]);
    await fork.commit([leafOf(ID, LINES, "head", 5)]);
    await fork.commit([leafOf(ID, LINES, "head", 6)]);
    const reader = { log: fork.reader() };
    for (const since of [log.checkpoint, log.checkpoints.get(4)]) {
      expect(await judge(LINES, { ...reader, since }, fork.bundleLog(ID))).toEqual({
        independence: ["0 FORK"],
      });
    }
    // The bundle of before against the log of now: its entries are others.
    const found = await judge(LINES, reader);
    expect(found.completeness).toContain("0 LOG_DIFFERS");
  });

  it("both: whoever kept a checkpoint, a receipt or asks a witness sees it", async () => {
    const back = log.rolledBack(3);
    const lines = LINES.slice(0, 3);
    const own = { log: back.reader() };
    expect(await judge(lines, own, back.bundleLog(ID))).toEqual({});
    expect(await judge(lines, { ...own, since: log.checkpoint }, back.bundleLog(ID))).toEqual({
      independence: ["0 LOG_ROLLED_BACK"],
    });
    const receipts = [{ session_id: ID, seq: 6, hash_chain: hashAt(LINES, 6) }];
    expect(await judge(lines, { ...own, receipts }, back.bundleLog(ID))).toEqual({
      anchored: ["6 TAIL_CUT"],
    });
    await back.commit([leafOf(OTHER, OTHERS, "head", 2)]);
    const policy = policyOf([watcher], 1);
    expect(await judge(lines, { ...own, policy }, back.bundleLog(ID))).toEqual({
      independence: ["0 NO_QUORUM"],
    });
  });
});

describe("a log whose parts do not fit", () => {
  it("other entries than those under its checkpoint: completeness", async () => {
    const other = log.rolledBack(5);
    other.entries[4] = other.entries[3] ?? new Uint8Array(0);
    expect((await judge(LINES, { log: other.reader() })).completeness).toEqual([
      "0 LOG_DIFFERS",
      "0 LOG_DIFFERS",
    ]);
  });
});
