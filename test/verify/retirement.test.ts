/**
 * What was taken away rightly, and what only looks like it: arguments erased or
 * removed, a session retired or deleted.
 */
import { describe, expect, it } from "vitest";
import { verifyBundle } from "../../src/verify/verify-bundle.ts";
import { bundleText, leafOf, read, retirementOf, sessionWithArgs, TestLog } from "./gateway.ts";

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
