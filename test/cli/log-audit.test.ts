import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { Leaf } from "../../src/log/leaf.ts";
import { formatVkey } from "../../src/log/note.ts";
import { leafOf, START_MS, sessionLines, TestLog } from "../verify/gateway.ts";
import { atlasGate, Folder, serveLog, writeLog } from "./command.ts";

const lines = (name: string) => sessionLines(name, 3);

/** Leaves of `count` sessions: each opened, moved on and closed. */
function leaves(count: number, prefix = "s"): Leaf[] {
  const of = (kind: "open" | "head" | "close", seq: number) =>
    Array.from({ length: count }, (_, i) =>
      leafOf(`${prefix}${i}`, lines(`${prefix}${i}`), kind, seq),
    );
  return [...of("open", 1), ...of("head", 2), ...of("close", 3)];
}

let small: TestLog;
let large: TestLog;
let vkey: string;

beforeAll(async () => {
  large = await TestLog.create();
  small = large;
  await large.commit(leaves(100));
  small = large.rolledBack(300);
  await large.commit(leaves(150, "t"));
  vkey = formatVkey(large.vkey);
});

const found = (stdout: string): string[] =>
  JSON.parse(stdout).findings.map(
    ({ index, code }: { index: number; code: string }) => `${index} ${code}`,
  );

describe("atlas-gate log audit", () => {
  it("walks a whole log over HTTP, and says what it holds", async () => {
    const served = await serveLog(() => large);
    const ran = await atlasGate("log", "audit", served.url, "--vkey", vkey, "--json");
    served.close();
    expect(ran.code).toBe(0);
    expect(JSON.parse(ran.stdout)).toEqual({
      ok: true,
      origin: large.origin,
      size: 750,
      signed: true,
      sessions: 250,
      kinds: { open: 250, head: 250, close: 250 },
      findings: [],
    });
    // Every entry, and every tile: three of level 0 and the one above them.
    expect(new Set(served.asked).size).toBe(1 + 3 + 3 + 1);
  });

  it("reads a copy of the bucket, and says when no key was given", async () => {
    await using folder = await Folder.create();
    await writeLog(folder, small, "log/");
    const ran = await atlasGate("log", "audit", folder.path);
    expect(ran.code).toBe(0);
    expect(ran.stdout).toContain("not checked: no --vkey");
    expect(ran.stdout).toContain("300: 100 open, 100 head, 100 close");
  });

  it("goes on where it had come to, and refuses a log that is not the same any more", async () => {
    await using folder = await Folder.create();
    let log = small;
    const served = await serveLog(() => log);
    const state = join(folder.path, "state");
    const args = ["log", "audit", served.url, "--vkey", vkey, "--state", state, "--json"];
    expect((await atlasGate(...args)).code).toBe(0);
    const kept = await readFile(state, "utf8");
    served.asked.length = 0;
    log = large;
    const grown = await atlasGate(...args);
    expect([grown.code, JSON.parse(grown.stdout).sessions]).toEqual([0, 250]);
    expect(served.asked).not.toContain("tile/entries/000");

    // The same key, another history: the old state is behind it, and the new one.
    const fork = await TestLog.create();
    await fork.commit(leaves(300, "u"));
    log = fork;
    const forked = await atlasGate(...args);
    expect(forked.code).toBe(1);
    expect(found(forked.stdout)).toContain("900 ROOT_MISMATCH");
    log = small;
    const back = await atlasGate(...args);
    expect([back.code, found(back.stdout)[0]]).toEqual([1, "300 LOG_ROLLED_BACK"]);
    expect(await readFile(state, "utf8")).not.toBe(kept);
    served.close();
  });

  it("holds older checkpoints against the walk", async () => {
    await using folder = await Folder.create();
    await writeLog(folder, large);
    const fork = await TestLog.create();
    await fork.commit(leaves(50, "u"));
    const args = ["log", "audit", folder.path, "--vkey", vkey, "--json"];
    const good = await folder.write("good", small.checkpoint);
    const bad = await folder.write("bad", fork.checkpoint);
    expect((await atlasGate(...args, "--since", good)).code).toBe(0);
    const ran = await atlasGate(...args, "--since", good, "--since", bad);
    expect([ran.code, found(ran.stdout)]).toEqual([1, ["150 FORK"]]);
  });

  it("finds an entry, a tile and a signature that do not fit", async () => {
    await using folder = await Folder.create();
    await writeLog(folder, large);
    const args = ["log", "audit", folder.path, "--vkey", vkey, "--json"];
    const damage = async (name: string, at: number): Promise<string[]> => {
      const bytes = await readFile(join(folder.path, name));
      const changed = Uint8Array.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 1;
      await folder.write(name, changed);
      const ran = await atlasGate(...args);
      await folder.write(name, bytes);
      expect(ran.code).toBe(1);
      return found(ran.stdout);
    };
    expect(await damage("tile/0/001", 32 * 7)).toEqual(["263 ENTRY_MISMATCH"]);
    expect(await damage("tile/1/000.p/2", 0)).toEqual(["750 TILE_MISMATCH"]);
    // A digit of the first entry's hash.
    expect(await damage("tile/entries/000", 20)).toContain("750 ROOT_MISMATCH");
    const other = await TestLog.create(2);
    const ran = await atlasGate("log", "audit", folder.path, "--vkey", formatVkey(other.vkey));
    expect([ran.code, /no_known_signature/.test(ran.stdout)]).toEqual([1, true]);
  });

  it("finds leaves that contradict each other, and entries that are none", async () => {
    await using folder = await Folder.create();
    const log = await TestLog.create();
    const [a, b] = [lines("a"), lines("b")];
    await log.commit([
      leafOf("a", a, "open", 1),
      leafOf("a", a, "open", 1),
      leafOf("b", b, "head", 2),
      leafOf("a", a, "head", 3),
      leafOf("a", a, "head", 2),
      { ...leafOf("a", a, "head", 2), hash_chain: "0".repeat(64) } as Leaf,
      leafOf("a", a, "close", 3),
      leafOf("a", a, "head", 3),
    ]);
    log.entries.push(new TextEncoder().encode("{}"));
    const undated = {
      ...leafOf("c", lines("c"), "open", 1),
      timestamp: "2026-99-99T99:99:99.999Z",
    };
    await log.commit([undated as Leaf]);
    await writeLog(folder, log);
    const ran = await atlasGate("log", "audit", folder.path, "--vkey", vkey, "--json");
    expect([ran.code, found(ran.stdout)]).toEqual([
      1,
      ["1", "2", "4", "5", "7"]
        .map((at) => `${at} LEAF_ORDER`)
        .concat("8 LEAF_MALFORMED", "9 LEAF_MALFORMED"),
    ]);
  });

  it("finds times that run backwards, within one audit and from one to the next", async () => {
    const log = await TestLog.create();
    const at = (name: string, seconds: number) =>
      leafOf(name, lines(name), "open", 1, START_MS + seconds * 1000);
    await log.commit([at("a", 0), at("b", 20), at("c", 20)]);
    const served = await serveLog(() => log);
    await using folder = await Folder.create();
    const state = join(folder.path, "state");
    const args = ["log", "audit", served.url, "--vkey", vkey, "--json"];
    expect((await atlasGate(...args, "--state", state)).code).toBe(0);
    await log.commit([at("d", 10), at("e", 20), at("f", 19)]);
    for (const more of [[], ["--state", state]]) {
      const ran = await atlasGate(...args, ...more);
      expect([ran.code, found(ran.stdout)]).toEqual([1, ["3 TIME_BACKWARDS", "5 TIME_BACKWARDS"]]);
    }
    // A state of an audit that did not remember the time goes on without it.
    const { time, ...older } = JSON.parse(await readFile(state, "utf8"));
    expect(time).toBe(new Date(START_MS + 20_000).toISOString());
    await folder.write("state", JSON.stringify(older));
    const ran = await atlasGate(...args, "--state", state);
    served.close();
    expect([ran.code, found(ran.stdout)]).toEqual([1, ["5 TIME_BACKWARDS"]]);
  });

  it("finds a retirement of another head than the session's newest", async () => {
    await using folder = await Folder.create();
    const log = await TestLog.create();
    const [a, b] = [lines("a"), lines("b")];
    const retired = (id: string, of: string[], seq: number): Leaf => {
      const leaf = leafOf(id, of, "head", seq);
      if (leaf.kind === "key") throw new Error("a key");
      return { ...leaf, kind: "retire", reason: "retention", remains: "chain" };
    };
    await log.commit([
      leafOf("a", a, "open", 1),
      leafOf("a", a, "close", 3),
      retired("a", a, 3),
      retired("a", a, 2),
      { ...retired("a", a, 3), hash_chain: "0".repeat(64) } as Leaf,
      retired("b", b, 3),
    ]);
    await writeLog(folder, log);
    const ran = await atlasGate("log", "audit", folder.path, "--vkey", vkey, "--json");
    expect([ran.code, found(ran.stdout)]).toEqual([
      1,
      ["3", "4", "5"].map((at) => `${at} LEAF_ORDER`),
    ]);
  });

  it("exits 2 when a part cannot be read, and tries again what fails for a moment", async () => {
    let failures = 2;
    const served = await serveLog(
      () => large,
      (path) => (path === "tile/0/001" && failures-- > 0 ? 503 : null),
    );
    expect((await atlasGate("log", "audit", served.url, "--vkey", vkey)).code).toBe(0);
    served.close();
    const broken = await serveLog(
      () => large,
      (path) => (path === "tile/entries/001" ? 404 : null),
    );
    const ran = await atlasGate("log", "audit", broken.url, "--vkey", vkey);
    broken.close();
    expect([ran.code, ran.stdout]).toEqual([2, ""]);
    expect(ran.stderr).toContain("tile/entries/001 is not there");
    expect((await atlasGate("log")).code).toBe(2);
    expect((await atlasGate("log", "audit")).code).toBe(2);
  });
});
