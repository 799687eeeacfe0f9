import { beforeAll, describe, expect, it } from "vitest";
import { formatVkey } from "../../src/log/note.ts";
import { canonical } from "../audit/reference.ts";
import {
  bundleText,
  hashAt,
  leafOf,
  policyText,
  sessionLines,
  TestLog,
  type Witness,
  witness,
} from "../verify/gateway.ts";
import { atlasGate, Folder, serveLog, writeLog } from "./command.ts";

const ID = "0199a3c2-7b1f-8abc-9def-0123456789ab";
const LINES = sessionLines(ID, 5);

let log: TestLog;
let watcher: Witness;
let vkey: string;
let early: string;

beforeAll(async () => {
  watcher = await witness(11);
  log = await TestLog.create();
  early = await log.commit([leafOf(ID, LINES, "open", 1)], [watcher]);
  await log.commit([leafOf(ID, LINES, "head", 4)], [watcher]);
  vkey = formatVkey(log.vkey);
});

describe("atlas-gate verify", () => {
  it("exits 0 when the records hold, and says so without a key", async () => {
    await using folder = await Folder.create();
    const bundle = await folder.write("b.json", log.bundleText(ID, LINES));
    const ran = await atlasGate("verify", bundle);
    expect([ran.code, ran.stderr]).toEqual([0, ""]);
    expect(ran.stdout).toContain("What was asked for holds.");
    expect(ran.stdout).toMatch(/^true {3}integrity/m);
    expect(ran.stdout).toMatch(/^- {6}anchored/m);
  });

  it("exits 0 when everything that can be asked for holds, from a folder and from a URL", async () => {
    await using folder = await Folder.create();
    const bundle = await folder.write("b.json", log.bundleText(ID, LINES));
    const policy = await folder.write("policy", policyText([watcher], 1));
    const since = await folder.write("since", early);
    const receipt = { session_id: ID, seq: 5, hash_chain: hashAt(LINES, 5) };
    const receipts = await folder.write("receipts", `${JSON.stringify(receipt)}\n`);
    await writeLog(folder, log);
    const options = ["--vkey", vkey, "--policy", policy, "--since", since, "--receipts", receipts];
    const served = await serveLog(() => log);
    for (const place of [folder.path, served.url, `${served.url}/`]) {
      const ran = await atlasGate("verify", bundle, ...options, "--log", place, "--json");
      expect([ran.code, ran.stderr]).toEqual([0, ""]);
      const report = JSON.parse(ran.stdout);
      expect([report.records, report.unanchored]).toEqual([5, 1]);
      for (const verdict of Object.values(report.verdicts)) {
        expect(verdict).toEqual({ ok: true, findings: [] });
      }
    }
    served.close();
  });

  it("says beside the verdict how many records no leaf in the bundle covers", async () => {
    await using folder = await Folder.create();
    const { leaves, ...rest } = log.bundleLog(ID);
    const bundle = async (name: string, shown: typeof leaves) =>
      folder.write(name, bundleText(ID, LINES, { ...rest, leaves: shown }));
    const anchoredOf = async (path: string, ...args: string[]) =>
      (await atlasGate("verify", path, ...args)).stdout.match(/^.*anchored.*$/m)?.[0];
    const both = await bundle("both.json", leaves);
    const asTheyAre = "anchored      the log holds them as they are";
    expect(await anchoredOf(both, "--vkey", vkey)).toBe(`true   ${asTheyAre}, but for the last 1`);
    const open = await bundle("open.json", leaves.slice(0, 1));
    expect(await anchoredOf(open, "--vkey", vkey)).toBe(`true   ${asTheyAre}, but for the last 4`);
    expect(await anchoredOf(open)).toBe(`-      ${asTheyAre}`);
    const whole = await folder.write("whole.json", log.bundleText(ID, LINES.slice(0, 4)));
    expect(await anchoredOf(whole, "--vkey", vkey)).toBe(`true   ${asTheyAre}`);
  });

  it("exits 1 when something is false, and says what and where", async () => {
    await using folder = await Folder.create();
    const edited = LINES.with(1, canonical({ ...JSON.parse(LINES[1] ?? ""), notes: "x" }));
    const bundle = await folder.write("b.json", log.bundleText(ID, edited));
    const ran = await atlasGate("verify", bundle);
    expect(ran.code).toBe(1);
    expect(ran.stdout).toContain("HASH_MISMATCH at record 2");
    expect(ran.stdout).toContain("DOES NOT HOLD");
    const cut = await folder.write("c.json", log.bundleText(ID, LINES.slice(0, 3)));
    expect((await atlasGate("verify", cut)).code).toBe(0);
    expect((await atlasGate("verify", cut, "--vkey", vkey)).code).toBe(1);
  });

  it("exits 1 for receipts that do not hold, and 0 for those that do, without a key", async () => {
    await using folder = await Folder.create();
    const bundle = await folder.write("b.json", log.bundleText(ID, LINES));
    const receipt = (hash_chain: string) =>
      JSON.stringify([{ session_id: ID, seq: 5, hash_chain }]);
    const good = await folder.write("good", receipt(hashAt(LINES, 5)));
    const bad = await folder.write("bad", receipt("0".repeat(64)));
    const other = await folder.write("other", receipt("0".repeat(64)).replace(ID, "another"));
    expect((await atlasGate("verify", bundle, "--receipts", good)).code).toBe(0);
    expect((await atlasGate("verify", bundle, "--receipts", bad)).code).toBe(1);
    expect((await atlasGate("verify", bundle, "--receipts", other)).code).toBe(2);
  });

  it("exits 2 for what is asked for and cannot be said", async () => {
    await using folder = await Folder.create();
    const bundle = await folder.write("b.json", log.bundleText(ID, LINES));
    const bare = await folder.write("bare.json", bundleText(ID, LINES, null));
    const since = await folder.write("since", early);
    for (const args of [
      [bare, "--vkey", vkey],
      [bundle, "--log", folder.path],
      [bundle, "--vkey", vkey, "--log", folder.path],
      [bundle, "--vkey", vkey, "--log", "http://127.0.0.1:1/log"],
      [bundle, "--vkey", vkey, "--since", since],
    ]) {
      expect((await atlasGate("verify", ...args)).code).toBe(2);
    }
  });

  it("exits 2 for what is unreadable, empty, of another format, or asked for wrongly", async () => {
    await using folder = await Folder.create();
    const empty = await folder.write("empty.json", bundleText(ID, [], null));
    const ran = await atlasGate("verify", empty);
    expect(ran.code).toBe(2);
    expect(ran.stdout).toContain("EMPTY");
    const bundle = await folder.write("b.json", log.bundleText(ID, LINES));
    const cases: [string[], RegExp][] = [
      [[], /one bundle/],
      [[bundle, bundle], /one bundle/],
      [[`${bundle}.gone`], /ENOENT/],
      [[await folder.write("none.json", "")], /not JSON/],
      [[await folder.write("lines.ndjson", LINES.join("\n"))], /not JSON/],
      [[await folder.write("v2.json", '{"format":"atlas-gate/bundle/v2"}')], /not a bundle/],
      [[await folder.write("latin.json", Uint8Array.of(0x22, 0xe9, 0x22))], /UTF-8/],
      [[bundle, "--vkey", "x"], /--vkey/],
      [[bundle, "--vkey", watcher.vkey], /--vkey/],
      [[bundle, "--unknown"], /unknown/],
      [[bundle, "--policy", bundle], /line 1/],
      [[bundle, "--receipts", await folder.write("r", "[]")], /receipt/],
    ];
    for (const [args, message] of cases) {
      const { code, stdout, stderr } = await atlasGate("verify", ...args);
      expect([code, stdout]).toEqual([2, ""]);
      expect(stderr).toMatch(message);
    }
    expect((await atlasGate("veryfi")).code).toBe(2);
    expect((await atlasGate()).code).toBe(2);
    expect((await atlasGate("--help")).code).toBe(0);
  });
});

describe("--segments", () => {
  it("holds a copy of the bucket against the records: 0, 1, and 2 where there is none", async () => {
    await using folder = await Folder.create();
    const bundle = await folder.write("b.json", log.bundleText(ID, LINES));
    const sealed = LINES.map((line) => {
      const { args: _args, salt: _salt, ...record } = JSON.parse(line);
      return `${canonical({ ...record, sealed: "AAAA" })}\n`;
    });
    const name = (first: number, last: number) =>
      `audit/default/2026/11/22/${ID}/${String(first).padStart(10, "0")}-${String(last).padStart(10, "0")}.ndjson`;
    const args = ["verify", bundle, "--segments", folder.path];
    expect((await atlasGate(...args)).code).toBe(2);
    await folder.write(name(1, 2), sealed.slice(0, 2).join(""));
    await folder.write(name(3, 4), sealed.slice(2, 4).join(""));
    expect((await atlasGate(...args)).code).toBe(0);
    await folder.write(name(3, 4), sealed.slice(2, 4).reverse().join(""));
    const ran = await atlasGate(...args);
    expect(ran.code).toBe(1);
    expect(ran.stdout).toContain("SEGMENT_GAP at record 3");
  });
});
