import { describe, expect, it } from "vitest";
import { formatVkey } from "../../src/log/note.ts";
import { canonical } from "../audit/reference.ts";
import { leafOf, sessionLines, TestLog } from "../verify/gateway.ts";
import { atlasGate, Folder } from "./command.ts";

const ID = "0199a3c2-7b1f-8abc-9def-0123456789ab";
const LINES = sessionLines(ID, 4);

describe("atlas-gate export", () => {
  it("writes what verified, in each profile", async () => {
    await using folder = await Folder.create();
    const log = await TestLog.create();
    await log.commit([leafOf(ID, LINES, "open", 1)]);
    const bundle = await folder.write("b.json", log.bundleText(ID, LINES));
    for (const [profile, count] of [
      ["ocsf", 4],
      ["agent-audit-trail", 4],
      ["otel", 1],
    ] as const) {
      const vkey = formatVkey(log.vkey);
      const ran = await atlasGate("export", bundle, "--profile", profile, "--vkey", vkey);
      expect([ran.code, ran.stderr]).toEqual([0, ""]);
      const made = ran.stdout.trimEnd().split("\n");
      expect(made.map((line) => typeof JSON.parse(line))).toEqual(Array(count).fill("object"));
    }
  });

  it("writes nothing of what does not verify, or of what could not be checked", async () => {
    await using folder = await Folder.create();
    const log = await TestLog.create();
    await log.commit([leafOf(ID, LINES, "open", 1)]);
    const edited = LINES.with(1, canonical({ ...JSON.parse(LINES[1] ?? ""), notes: "x" }));
    const bad = await folder.write("bad.json", log.bundleText(ID, edited));
    const good = await folder.write("good.json", log.bundleText(ID, LINES));
    const tampered = await atlasGate("export", bad, "--profile", "ocsf");
    expect([tampered.code, tampered.stdout]).toEqual([1, ""]);
    expect(tampered.stderr).toContain("HASH_MISMATCH");
    for (const args of [
      [good, "--profile", "ocsf", "--log", folder.path],
      [good],
      [good, "--profile", "toString"],
      ["--profile", "ocsf"],
    ]) {
      const ran = await atlasGate("export", ...args);
      expect([ran.code, ran.stdout]).toEqual([2, ""]);
    }
  });
});
