import { env } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { sha256Bytes as hash } from "../../src/audit/hash-node.ts";
import { equalBytes, toHex } from "../../src/log/bytes.ts";
import { type Checkpoint, checkpointOf, openCheckpoint } from "../../src/log/checkpoint.ts";
import { decodeEntries } from "../../src/log/entries.ts";
import { logSigners } from "../../src/log/keys.ts";
import { parseLeaf } from "../../src/log/leaf.ts";
import { leafHash, nodesOfLeaves, rootHash } from "../../src/log/merkle.ts";
import { formatVkey, parseNote } from "../../src/log/note.ts";
import { LogRefused } from "../../src/log/refusal.ts";
import { LogStore } from "../../src/log/store.ts";
import { tilePath } from "../../src/log/tiles.ts";
import { captureLogs } from "../support/objects.ts";
import {
  bucketNotes,
  type Fault,
  leaf,
  ORIGIN,
  openings,
  openLog,
  SEED,
  STEPS,
  StoreDown,
  withLog,
} from "./support.ts";

const logs = captureLogs();
const NOW = Date.UTC(2100, 0, 15, 10);
const OTHER_SEED = new Uint8Array(32).fill(5);

async function refusal(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof LogRefused)) throw new Error(`not refused: ${error}`);
  return error.reason;
}

async function published(): Promise<Checkpoint> {
  const note = (await bucketNotes()).get("log/checkpoint");
  const opened = await openCheckpoint(
    note ?? "",
    (await logSigners(ORIGIN, [SEED])).map(({ key }) => key),
  );
  if (!opened.ok) throw new Error(`no checkpoint: ${opened.reason}`);
  return opened.checkpoint;
}

/** All entries, from full bundles in the bucket and the tail in the object. */
async function entriesOf(storage: DurableObjectStorage, size: number): Promise<Uint8Array[]> {
  const entries: Uint8Array[] = [];
  for (let index = 0; index < Math.floor(size / 256); index++) {
    const path = `log/${tilePath({ level: "entries", index, width: 256 })}`;
    const bytes = await (await env.BUCKET.get(path))?.arrayBuffer();
    entries.push(...(decodeEntries(new Uint8Array(bytes ?? new ArrayBuffer(0))) ?? []));
  }
  return [...entries, ...(decodeEntries(new LogStore(storage).load().tail) ?? [])];
}

/** The published root is that of the entries, and each entry is a leaf of its own. */
async function expectSound(storage: DurableObjectStorage, size: number): Promise<void> {
  const checkpoint = await published();
  expect(checkpoint.size).toBe(size);
  const entries = await entriesOf(storage, size);
  expect(entries).toHaveLength(size);
  const read = nodesOfLeaves(
    hash,
    entries.map((entry) => leafHash(hash, entry)),
  );
  expect(toHex(rootHash(hash, read, size))).toBe(toHex(checkpoint.root));
  const named = entries.map((entry) => {
    const parsed = parseLeaf(entry);
    if (parsed === null || parsed.kind === "key") throw new Error("no leaf of a session");
    return `${parsed.session} ${parsed.kind} ${parsed.seq}`;
  });
  expect(new Set(named).size).toBe(size);
}

describe("a commit", () => {
  test("publishes tiles, entries and a signed checkpoint that fit each other", async () => {
    await withLog(async (storage) => {
      const { writer, store } = await openLog(storage);
      expect(await writer.commit(openings(0, 3), NOW)).toEqual(["logged", "logged", "logged"]);
      expect(await writer.commit(openings(3, 600), NOW + 1000)).toHaveLength(600);
      await expectSound(storage, 603);
      expect([...(await bucketNotes()).keys()]).toEqual([
        "log/checkpoint",
        "log/checkpoints/00000000000000000003",
        "log/checkpoints/00000000000000000603",
      ]);
      const tiles = await env.BUCKET.list({ prefix: "log/tile/" });
      expect(tiles.objects.map(({ key }) => key)).toEqual([
        "log/tile/0/000",
        "log/tile/0/001",
        "log/tile/entries/000",
        "log/tile/entries/001",
      ]);
      expect(store.leavesOf(openings(7, 1)[0]?.session ?? "")).toEqual([
        { kind: "open", seq: 1, index: 7 },
      ]);
      expect(store.before(7)?.size).toBe(3);
      expect(store.after(7)?.size).toBe(603);
      expect(store.before(2)).toBeNull();
      expect(store.after(603)).toBeNull();
    });
  });

  test("of leaves that the log has changes nothing, and acknowledges them", async () => {
    await withLog(async (storage) => {
      const { writer } = await openLog(storage);
      const offered = [leaf("open", 1, 1), leaf("head", 1, 4), leaf("open", 1, 1)];
      expect(await writer.commit(offered, NOW)).toEqual(["logged", "logged", "logged"]);
      const before = await bucketNotes();
      const { writer: next } = await openLog(storage);
      expect(await next.commit(offered, NOW + 5000)).toEqual(["logged", "logged", "logged"]);
      expect(await bucketNotes()).toEqual(before);
      expect((await published()).size).toBe(2);
    });
  });

  test("never takes what contradicts the session's leaves, in the log or in the batch", async () => {
    await withLog(async (storage) => {
      const { writer } = await openLog(storage);
      const forged = (offered: ReturnType<typeof leaf>) => ({
        ...offered,
        hash_chain: "ab".repeat(32),
      });
      expect(
        await writer.commit(
          [
            leaf("head", 9, 3),
            leaf("open", 1, 1),
            forged(leaf("open", 1, 1)),
            leaf("head", 1, 7),
            leaf("head", 1, 5),
            forged(leaf("close", 1, 7)),
            leaf("close", 1, 8),
            leaf("head", 1, 9),
          ],
          NOW,
        ),
      ).toEqual([
        "conflict",
        "logged",
        "conflict",
        "logged",
        "conflict",
        "conflict",
        "logged",
        "conflict",
      ]);
      expect(
        await writer.commit(
          [forged(leaf("head", 1, 7)), leaf("head", 1, 9), leaf("close", 1, 8)],
          NOW,
        ),
      ).toEqual(["conflict", "conflict", "logged"]);
      expect((await published()).size).toBe(3);
    });
  });

  test("of a retirement is taken after the close too, once for each reason", async () => {
    await withLog(async (storage) => {
      const { writer, store } = await openLog(storage);
      const retire = (reason: "retention" | "erasure") => ({
        ...leaf("close", 1, 2),
        kind: "retire" as const,
        reason,
        remains: "chain" as const,
      });
      await writer.commit([leaf("open", 1, 1), leaf("close", 1, 2)], NOW);
      const retirements = [retire("erasure"), retire("retention"), retire("erasure")];
      expect(await writer.commit(retirements, NOW)).toEqual(["logged", "logged", "logged"]);
      const { session } = leaf("open", 1, 1);
      expect(store.leavesOf(session).map(({ kind }) => kind)).toEqual([
        "open",
        "close",
        "retire:erasure",
        "retire:retention",
      ]);
    });
  });

  test("of a retirement is taken of the newest head alone", async () => {
    await withLog(async (storage) => {
      const { writer } = await openLog(storage);
      await writer.commit([leaf("open", 1, 1), leaf("head", 1, 5), leaf("close", 1, 9)], NOW);
      const retire = (session: number, seq: number) => ({
        ...leaf("close", session, seq),
        kind: "retire" as const,
        reason: "retention" as const,
        remains: "chain" as const,
      });
      const forged = { ...retire(1, 9), hash_chain: "ab".repeat(32) };
      const offered = [retire(1, 5), forged, retire(1, 10), retire(2, 1), retire(1, 9), forged];
      expect(await writer.commit(offered, NOW)).toEqual([
        "conflict",
        "conflict",
        "conflict",
        "conflict",
        "logged",
        "conflict",
      ]);
      expect((await published()).size).toBe(4);
    });
  });

  test("gives leaves a time that never runs backwards", async () => {
    await withLog(async (storage) => {
      const { writer } = await openLog(storage);
      await writer.commit(openings(0, 1), NOW);
      await writer.commit(openings(1, 1), NOW - 60_000);
      const times = (await entriesOf(storage, 2)).map((entry) => parseLeaf(entry)?.timestamp);
      expect(times).toEqual(["2100-01-15T10:00:00.000Z", "2100-01-15T10:00:00.000Z"]);
    });
  });
});

describe("a commit that a store cuts off", () => {
  const faults: Fault[] = STEPS.flatMap((step) => [
    { step, when: "before it persisted" },
    { step, when: "after it persisted" },
  ]);

  test.each(faults)("at $step, $when, is carried through by the next life", async (fault) => {
    await withLog(async (storage) => {
      const first = await openLog(storage);
      await first.writer.commit(openings(0, 250), NOW);

      const broken = await openLog(storage, { fault });
      // Over the edge of a tile, so that there are full tiles to write.
      const cut = openings(250, 20);
      await expect(broken.writer.commit(cut, NOW + 1000)).rejects.toThrow(StoreDown);
      const signed = await bucketNotes();

      const next = await openLog(storage);
      // What was cut off before it was staged is offered again, with more beside it.
      const more = [...cut, ...openings(270, 7)];
      expect(new Set(await next.writer.commit(more, NOW + 2000))).toEqual(new Set(["logged"]));
      await expectSound(storage, 277);
      expect(next.store.load().staged).toBeNull();

      // Whatever was to be read before is still a checkpoint of the same tree.
      const now = await bucketNotes();
      for (const [key, note] of signed)
        if (key !== "log/checkpoint") expect(now.get(key)).toBe(note);
      const sizes = [...now.keys()].filter((key) => key !== "log/checkpoint");
      const roots = new Set([...now.values()].map((note) => checkpointOf(note)?.size));
      expect(roots.size).toBe(sizes.length);
    });
  });

  test.each(faults)("at $step, $when, twice over, still ends as one tree", async (fault) => {
    await withLog(async (storage) => {
      const first = await openLog(storage, { fault });
      await expect(first.writer.commit(openings(0, 300), NOW)).rejects.toThrow(StoreDown);
      // The second life meets the same fault while it replays, or while it commits.
      const second = openLog(storage, { fault }).then(({ writer }) =>
        writer.commit(openings(0, 300), NOW + 1000),
      );
      await second.catch((error: unknown) => expect(error).toBeInstanceOf(StoreDown));
      const third = await openLog(storage);
      await third.writer.commit(openings(0, 310), NOW + 2000);
      await expectSound(storage, 310);
      const sizes = [...(await bucketNotes()).entries()].flatMap(([key, note]) =>
        key === "log/checkpoint" ? [] : [checkpointOf(note)?.size],
      );
      expect(new Set(sizes).size).toBe(sizes.length);
    });
  });
});

describe("a log refuses to sign", () => {
  /** The rows of every table, to be put back later. */
  function snapshot(storage: DurableObjectStorage) {
    const tables = ["head", "staged", "edge", "tail", "checkpoints", "leaves", "keys"];
    const rows = new Map(
      tables.map((table) => [table, storage.sql.exec(`SELECT * FROM ${table}`).toArray()]),
    );
    return () => {
      for (const [table, kept] of rows) {
        storage.sql.exec(`DELETE FROM ${table}`);
        for (const row of kept) {
          const marks = Object.keys(row).map(() => "?");
          storage.sql.exec(
            `INSERT INTO ${table} (${Object.keys(row).join(", ")}) VALUES (${marks.join(", ")})`,
            ...Object.values(row),
          );
        }
      }
    };
  }

  test("when the object was restored to an older state", async () => {
    await withLog(async (storage) => {
      const { writer } = await openLog(storage);
      await writer.commit(openings(0, 3), NOW);
      const restore = snapshot(storage);
      await writer.commit(openings(3, 3), NOW + 1000);
      restore();
      expect(await refusal(openLog(storage))).toBe("bucket_newer");
    });
  });

  test("when object and checkpoint were both restored: the locked copy gives it away", async () => {
    await withLog(async (storage) => {
      const { writer } = await openLog(storage);
      await writer.commit(openings(0, 3), NOW);
      const restore = snapshot(storage);
      const old = (await bucketNotes()).get("log/checkpoint") ?? "";
      await writer.commit(openings(3, 3), NOW + 1000);
      restore();
      await env.BUCKET.put("log/checkpoint", old);
      expect(await refusal(openLog(storage))).toBe("bucket_newer");
    });
  });

  test("when something among the copies hides a newer one", async () => {
    await withLog(async (storage) => {
      const { writer } = await openLog(storage);
      await writer.commit(openings(0, 3), NOW);
      const restore = snapshot(storage);
      const old = (await bucketNotes()).get("log/checkpoint") ?? "";
      await writer.commit(openings(3, 9), NOW + 1000);
      restore();
      await env.BUCKET.put("log/checkpoint", old);
      // Behind the copy of 3 and before that of 12.
      await env.BUCKET.put(`log/checkpoints/${"0".repeat(19)}:x`, "");
      expect(await refusal(openLog(storage))).toBe("bucket_unreadable");
    });
  });

  test("when the object is gone and the bucket is not", async () => {
    await withLog(async (storage) => {
      const { writer } = await openLog(storage);
      await writer.commit(openings(0, 3), NOW);
      await storage.deleteAll();
      expect(await refusal(openLog(storage))).toBe("bucket_newer");
    });
  });

  test("when the bucket holds another tree of the same size", async () => {
    await withLog(async (storage) => {
      const { writer } = await openLog(storage);
      await writer.commit(openings(0, 3), NOW);
      const signed = (await bucketNotes()).get("log/checkpoint") ?? "";
      const lines = signed.split("\n");
      lines[2] = `A${lines[2]?.slice(1)}`;
      await env.BUCKET.put("log/checkpoint", lines.join("\n"));
      expect(await refusal(openLog(storage))).toBe("bucket_forked");
    });
  });

  test.each([
    ["no note", "something else"],
    [
      "another log's",
      "other.example/log\n3\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— a AAAAAAA=\n",
    ],
  ])("when the bucket's checkpoint is %s", async (_, text) => {
    await withLog(async (storage) => {
      const { writer } = await openLog(storage);
      await writer.commit(openings(0, 3), NOW);
      await env.BUCKET.put("log/checkpoint", text);
      expect(await refusal(openLog(storage))).toBe("bucket_unreadable");
    });
  });

  test("when a tile is there already with other bytes, before the checkpoint is out", async () => {
    await withLog(async (storage) => {
      const { writer } = await openLog(storage);
      await writer.commit(openings(0, 3), NOW);
      const before = await bucketNotes();
      await env.BUCKET.put("log/tile/0/000", new Uint8Array(8192));
      expect(await refusal(writer.commit(openings(3, 300), NOW + 1000))).toBe("write_conflict");
      expect(await refusal(openLog(storage))).toBe("write_conflict");
      expect(await bucketNotes()).toEqual(before);
    });
  });

  test.each([
    ["edge", "UPDATE edge SET bytes = zeroblob(length(bytes))"],
    ["edge's width", "DELETE FROM edge"],
    ["tail", "UPDATE tail SET bytes = zeroblob(2)"],
  ])("when the stored %s is not that of the signed tree", async (_, change) => {
    await withLog(async (storage) => {
      const { writer } = await openLog(storage);
      await writer.commit(openings(0, 3), NOW);
      storage.sql.exec(change);
      expect(await refusal(openLog(storage))).toBe("edge_mismatch");
    });
  });

  test("when the staged commit was changed", async () => {
    await withLog(async (storage) => {
      const { writer } = await openLog(storage, {
        fault: { step: "swap", when: "before it persisted" },
      });
      await expect(writer.commit(openings(0, 3), NOW)).rejects.toThrow(StoreDown);
      storage.sql.exec("UPDATE staged SET json = replace(json, 'open', 'head')");
      expect(await refusal(openLog(storage))).toBe("staged_mismatch");
    });
  });

  test("when its name has changed since the first signature", async () => {
    await withLog(async (storage) => {
      const { writer } = await openLog(storage);
      await writer.commit(openings(0, 1), NOW);
      expect(await refusal(openLog(storage, { origin: "other.example/log" }))).toBe(
        "origin_changed",
      );
    });
  });

  test("when all its keys change at once, and when a retired key comes back", async () => {
    await withLog(async (storage) => {
      const { writer } = await openLog(storage);
      await writer.commit(openings(0, 1), NOW);
      expect(await refusal(openLog(storage, { seeds: [OTHER_SEED] }))).toBe("keys_changed");

      const both = await openLog(storage, { seeds: [SEED, OTHER_SEED] });
      await both.writer.commit(openings(1, 1), NOW);
      const after = await openLog(storage, { seeds: [OTHER_SEED] });
      await after.writer.commit(openings(2, 1), NOW);
      expect(await refusal(openLog(storage, { seeds: [OTHER_SEED, SEED] }))).toBe("keys_changed");
    });
  });

  test("when two lives of it write: the second to swap loses", async () => {
    await withLog(async (storage) => {
      const one = await openLog(storage);
      const two = await openLog(storage);
      await one.writer.commit(openings(0, 2), NOW);
      expect(await refusal(two.writer.commit(openings(5, 1), NOW))).toBe("lost_race");
    });
  });
});

describe("the time of leaves", () => {
  const timesOf = async (storage: DurableObjectStorage, size: number) =>
    (await entriesOf(storage, size)).map((entry) => parseLeaf(entry)?.timestamp);

  test.each([
    ["ten years ahead", NOW + 315_360_000_000],
    ["of the year 10000", Date.UTC(10_000, 0, 1)],
    ["that no date can say", Number.MAX_SAFE_INTEGER * 1000],
  ])("is not moved by a cosignature %s, should one have got in", async (_, cosignedAt) => {
    await withLog(async (storage) => {
      const { writer, store } = await openLog(storage);
      await writer.commit(openings(0, 1), NOW);
      store.addCosignatures(1, [], cosignedAt, false);
      await writer.commit(openings(1, 1), NOW + 1000);
      const { writer: next } = await openLog(storage);
      await next.commit(openings(2, 1), NOW + 120_000);
      expect(await timesOf(storage, 3)).toEqual(
        // A minute is what honest clocks may differ by.
        [NOW, NOW + 61_000, NOW + 120_000].map((ms) => new Date(ms).toISOString()),
      );
    });
  });

  test("never is one that a leaf cannot say: the commit fails before anything is staged", async () => {
    await withLog(async (storage) => {
      const { writer } = await openLog(storage);
      await writer.commit(openings(0, 1), NOW);
      await expect(writer.commit(openings(1, 1), Date.UTC(10_000, 0, 1))).rejects.toThrow();
      const { writer: next, store } = await openLog(storage);
      expect(store.load().staged).toBeNull();
      await next.commit(openings(1, 1), NOW + 1000);
      await expectSound(storage, 2);
    });
  });
});

describe("a bucket that was rolled back", () => {
  test("gets the newest checkpoint again, with an alarm", async () => {
    await withLog(async (storage) => {
      const { writer } = await openLog(storage);
      await writer.commit(openings(0, 3), NOW);
      const old = (await bucketNotes()).get("log/checkpoint") ?? "";
      await writer.commit(openings(3, 3), NOW + 1000);
      await env.BUCKET.put("log/checkpoint", old);
      await openLog(storage);
      expect((await published()).size).toBe(6);
      expect(logs.join("\n")).toContain("log_bucket_rolled_back");
    });
  });
});

describe("a rotation of the signing key", () => {
  test("is signed by both keys, and leaves a key leaf at its beginning and its end", async () => {
    await withLog(async (storage) => {
      const first = await openLog(storage);
      await first.writer.commit(openings(0, 1), NOW);
      const both = await openLog(storage, { seeds: [SEED, OTHER_SEED] });
      await both.writer.commit(openings(1, 1), NOW + 1000);
      const [old, next] = (await logSigners(ORIGIN, [SEED, OTHER_SEED])).map(({ key }) => key);
      if (old === undefined || next === undefined) throw new Error("no keys");
      const note = (await bucketNotes()).get("log/checkpoint") ?? "";
      expect(parseNote(note)?.signatures).toHaveLength(2);
      for (const key of [old, next]) expect((await openCheckpoint(note, [key])).ok).toBe(true);

      const after = await openLog(storage, { seeds: [OTHER_SEED] });
      await after.writer.commit(openings(2, 1), NOW + 2000);
      const last = (await bucketNotes()).get("log/checkpoint") ?? "";
      expect((await openCheckpoint(last, [next])).ok).toBe(true);
      expect((await openCheckpoint(last, [old])).ok).toBe(false);
      expect((await entriesOf(storage, 5)).map((entry) => parseLeaf(entry))).toMatchObject([
        { kind: "open" },
        { kind: "key", action: "add", vkey: formatVkey(next) },
        { kind: "open" },
        { kind: "key", action: "retire", vkey: formatVkey(old) },
        { kind: "open" },
      ]);
    });
  });
});

describe("an object that was merely asked", () => {
  test("stores nothing", async () => {
    await withLog(async (storage) => {
      const { store, writer } = await openLog(storage);
      expect(writer.size).toBe(0);
      expect([store.latest(), store.keys(), store.leavesOf("00".repeat(32))]).toEqual([
        null,
        [],
        [],
      ]);
      expect(await writer.commit([], NOW)).toEqual([]);
      expect(storage.sql.exec("SELECT name FROM sqlite_master").toArray()).toEqual([]);
      expect(equalBytes(new Uint8Array(0), store.load().tail)).toBe(true);
    });
  });
});
