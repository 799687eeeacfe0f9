/**
 * What was taken away rightly, and what only looks like it: arguments erased or
 * removed, a session retired or deleted.
 */
import { describe, expect, it } from "vitest";
import { verifyBundle } from "../../src/verify/verify-bundle.ts";
import {
  bundleText,
  hashAt,
  isoAt,
  leafOf,
  read,
  retirementOf,
  START_MS,
  sessionWithArgs,
  TestLog,
} from "./gateway.ts";

const ID = "0199a3c2-7b1f-8abc-9def-0123456789ab";
const OTHER = "0199a3c2-7b1f-8abc-9def-ba9876543210";
const whole = sessionWithArgs(ID, 4, () => true);

async function closedLog(): Promise<TestLog> {
  const log = await TestLog.create();
  await log.commit([leafOf(ID, whole, "open", 1), leafOf(ID, whole, "head", 2)]);
  await log.commit([leafOf(ID, whole, "close", 4)]);
  return log;
}

describe("stored arguments that are not there", () => {
  const erased = sessionWithArgs(ID, 4, () => false);
  const mixed = sessionWithArgs(ID, 4, (seq) => seq !== 3);

  async function notes(lines: readonly string[], log: TestLog, outside: "nothing" | "key" | "log") {
    const vkeys = [log.vkey];
    const trust = { nothing: {}, key: { vkeys }, log: { vkeys, log: log.reader() } }[outside];
    // The leaf of an erasure is in the bundle where it is the newest, and in the log.
    const { leaves, ...rest } = log.bundleLog(ID, true);
    const shown = { ...rest, leaves: outside === "log" ? leaves.slice(0, 2) : leaves };
    const { verdicts } = await verifyBundle(read(bundleText(ID, lines, shown)), trust);
    expect(verdicts.integrity.ok).toBe(true);
    return verdicts.integrity.findings.map(({ seq, code }) => `${seq} ${code}`);
  }

  it("are noted where no erasure is shown: all of them, or one", async () => {
    const log = await closedLog();
    for (const outside of ["nothing", "key", "log"] as const) {
      expect(await notes(whole, log, outside)).toEqual([]);
      expect(await notes(mixed, log, outside)).toEqual(["3 ARGS_NOT_THERE"]);
      expect(await notes(erased, log, outside)).toEqual(
        ["2", "3", "4"].map((seq) => `${seq} ARGS_NOT_THERE`),
      );
    }
  });

  it("are an erasure's where its leaf is under the checkpoint, or met in the log", async () => {
    const log = await closedLog();
    await log.commit([retirementOf(ID, whole, "erasure", 4)]);
    expect(await notes(erased, log, "key")).toEqual([]);
    expect(await notes(erased, log, "log")).toEqual([]);
    // Whoever gives no key cannot tell the leaf from one that is made up.
    expect(await notes(erased, log, "nothing")).toHaveLength(3);
  });

  it("are never an erasure's where others are still there", async () => {
    const log = await closedLog();
    await log.commit([retirementOf(ID, whole, "erasure", 4)]);
    expect(await notes(mixed, log, "key")).toEqual(["3 ARGS_NOT_THERE"]);
  });

  it("are not explained by a retirement, nor by another session's erasure", async () => {
    const log = await closedLog();
    await log.commit([retirementOf(ID, whole, "retention", 4)]);
    const others = sessionWithArgs(OTHER, 1, () => true);
    await log.commit([leafOf(OTHER, others, "open", 1), retirementOf(OTHER, others, "erasure", 1)]);
    expect(await notes(erased, log, "key")).toHaveLength(3);
    expect(await notes(erased, log, "log")).toHaveLength(3);
  });
});

describe("a session of which no record is left", () => {
  const AT = START_MS + 60_000;

  /** The verdicts on a bundle without records, with every leaf of the session. */
  async function verdictsOn(log: TestLog) {
    const bundle = read(bundleText(ID, [], log.bundleLog(ID, true)));
    return (await verifyBundle(bundle, { vkeys: [log.vkey], log: log.reader() })).verdicts;
  }

  async function expectDeleted(log: TestLog) {
    const { anchored, completeness } = await verdictsOn(log);
    expect([anchored.ok, completeness.ok]).toEqual([false, false]);
    expect(completeness.findings.map(({ code }) => code)).toContain("SESSION_DELETED");
    expect(anchored.findings.map(({ code }) => code)).toContain("TAIL_CUT");
  }

  it("was retired where the log says so of its last record: nothing is true, nothing false", async () => {
    const log = await closedLog();
    await log.commit([retirementOf(ID, whole, "retention", 4, AT)]);
    const { integrity, anchored, completeness } = await verdictsOn(log);
    for (const { ok, findings } of [anchored, completeness]) {
      expect(ok).toBeNull();
      expect(findings.map(({ seq, code }) => `${seq} ${code}`)).toEqual(["4 SESSION_RETIRED"]);
      const [{ message } = { message: "" }] = findings;
      for (const part of ["retention", isoAt(AT), isoAt(START_MS)]) expect(message).toContain(part);
    }
    expect([integrity.ok, integrity.findings[0]?.code]).toEqual([false, "EMPTY"]);
  });

  it("was retired, too, where it was erased before or after that", async () => {
    const [erasure, retention] = [
      retirementOf(ID, whole, "erasure", 4, AT),
      retirementOf(ID, whole, "retention", 4, AT),
    ];
    for (const leaves of [
      [erasure, retention],
      [retention, erasure],
    ]) {
      const log = await closedLog();
      await log.commit(leaves);
      const { anchored, completeness } = await verdictsOn(log);
      expect([anchored.ok, completeness.ok]).toEqual([null, null]);
    }
  });

  it("was deleted where no leaf retires it, or one that is not of its last record", async () => {
    await expectDeleted(await closedLog());
    const others = sessionWithArgs(OTHER, 4, () => true);
    for (const leaf of [
      retirementOf(ID, whole, "retention", 2, AT),
      { ...retirementOf(ID, whole, "retention", 4, AT), hash_chain: hashAt(others, 4) },
      // It says that the chain stays.
      retirementOf(ID, whole, "erasure", 4, AT),
    ]) {
      const log = await closedLog();
      await log.commit([leaf]);
      await expectDeleted(log);
    }
  });

  it("was deleted where it went on after it had been retired", async () => {
    const log = await TestLog.create();
    await log.commit([leafOf(ID, whole, "open", 1), retirementOf(ID, whole, "retention", 1, AT)]);
    await log.commit([leafOf(ID, whole, "close", 4, AT)]);
    await expectDeleted(log);
  });

  it("is not said to be retired by a log that does not hold together", async () => {
    const log = await closedLog();
    await log.commit([retirementOf(ID, whole, "retention", 4, AT)]);
    const bundle = read(bundleText(ID, [], null));
    const trust = { vkeys: [log.vkey] };
    const made = log.rolledBack(log.size);
    made.entries[1] = made.entries[0] ?? new Uint8Array(0);
    const { completeness } = (await verifyBundle(bundle, { ...trust, log: made.reader() }))
      .verdicts;
    expect(completeness.ok).toBe(false);
    // Nor is it where the newest leaf of its chain is left out of the bundle.
    const { leaves, ...rest } = log.bundleLog(ID);
    const cut = read(bundleText(ID, [], { ...rest, leaves }));
    expect((await verifyBundle(cut, trust)).verdicts.anchored.ok).toBe(false);
  });

  it("with its tail cut before a retirement is no retired one", async () => {
    const log = await closedLog();
    await log.commit([retirementOf(ID, whole, "retention", 4, AT)]);
    const bundle = read(bundleText(ID, whole.slice(0, 3), log.bundleLog(ID, true)));
    const trust = { vkeys: [log.vkey], log: log.reader() };
    const { anchored, completeness } = (await verifyBundle(bundle, trust)).verdicts;
    expect([anchored.ok, completeness.ok]).toEqual([false, false]);
    const kept = (await verifyBundle(log.bundle(ID, whole, true), trust)).verdicts;
    expect([kept.anchored.ok, kept.completeness.ok]).toEqual([true, true]);
  });
});
