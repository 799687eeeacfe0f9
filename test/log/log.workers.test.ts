import { env, exports } from "cloudflare:workers";
import { describe, expect, test, vi } from "vitest";
import { genesis } from "../../src/audit/chain.ts";
import { sha256Bytes as hash, sha256Hex } from "../../src/audit/hash-node.ts";
import { openCheckpoint } from "../../src/log/checkpoint.ts";
import { decodeEntries } from "../../src/log/entries.ts";
import { type Leaf, parseLeaf } from "../../src/log/leaf.ts";
import { inclusionProof, leafHash, verifyInclusion } from "../../src/log/merkle.ts";
import { parseVkey } from "../../src/log/note.ts";
import { nodesOfTiles, partialTiles, tilePath, tilesForInclusion } from "../../src/log/tiles.ts";
import { logStub } from "../../src/objects.ts";
import { readiness } from "../../src/ops/health.ts";
import { admin, BASE, Client, mintKey, recordsOf } from "../support/gateway.ts";
import {
  captureLogs,
  crash,
  flush,
  ring,
  ringUntilReleased,
  session,
  tablesOf,
  useStoppedClock,
} from "../support/objects.ts";
import { conflicts, sinkState } from "../support/sinks.ts";
import { leaf, openings } from "./support.ts";

useStoppedClock();
const logs = captureLogs();

async function get(path: string): Promise<Response> {
  return exports.default.fetch(`${BASE}/log/${path}`);
}

async function bytesOf(path: string): Promise<Uint8Array> {
  const response = await get(path);
  if (response.status !== 200) throw new Error(`${path}: ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** The log as its readers see it: every entry, checked against the tiles and the signed root. */
async function readLog(): Promise<{ size: number; leaves: (Leaf | null)[] }> {
  const vkey = parseVkey((await (await get("vkey")).text()).trimEnd());
  const opened = await openCheckpoint(
    await (await get("checkpoint")).text(),
    vkey === null ? [] : [vkey],
  );
  if (!opened.ok) throw new Error(opened.reason);
  const { size, root } = opened.checkpoint;
  const leaves: (Leaf | null)[] = [];
  const tiles = new Map<string, Uint8Array>();
  for (let index = 0; index * 256 < size; index++) {
    const width = Math.min(256, size - index * 256);
    const bundle = decodeEntries(await bytesOf(tilePath({ level: "entries", index, width })));
    for (const [i, entry] of (bundle ?? []).entries()) {
      const at = index * 256 + i;
      for (const tile of tilesForInclusion(at, size)) {
        const name = `${tile.level}/${tile.index}`;
        if (!tiles.has(name)) tiles.set(name, await bytesOf(tilePath(tile)));
      }
      const read = nodesOfTiles(hash, (level, n) => tiles.get(`${level}/${n}`));
      const proof = inclusionProof(hash, read, at, size);
      expect(verifyInclusion(hash, leafHash(hash, entry), at, size, proof, root)).toBe(true);
      leaves.push(parseLeaf(entry));
    }
  }
  expect(leaves).toHaveLength(size);
  return { size, leaves };
}

async function leavesOf(id: string): Promise<(Leaf | null)[]> {
  const name = genesis(sha256Hex, "default", id);
  return (await readLog()).leaves.filter(
    (entry) => entry !== null && entry.kind !== "key" && entry.session === name,
  );
}

describe("a session's leaves", () => {
  test("are its opening, each head that a flush moved, and its close; they are the records'", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    await flush(client.id);
    await client.call("list_files");
    await client.call("list_files");
    await flush(client.id);
    await flush(client.id);
    expect(await client.end()).toBe(204);
    await ringUntilReleased(client.id);
    const records = await recordsOf(client.id);
    const hashes = new Map(records.map(({ seq, hash_chain }) => [seq, hash_chain]));
    expect(await leavesOf(client.id)).toMatchObject([
      { kind: "open", seq: 1, hash_chain: hashes.get(1) },
      { kind: "head", seq: 3, hash_chain: hashes.get(3) },
      { kind: "close", seq: 4, hash_chain: hashes.get(4) },
    ]);
  });

  test("begin with a head too when the first flush finds more than one record", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    await client.call("list_files");
    await flush(client.id);
    expect((await leavesOf(client.id)).map((entry) => entry?.kind)).toEqual(["open", "head"]);
  });

  test("name neither the session nor anybody", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    await flush(client.id);
    const { size } = await readLog();
    const entries = await bytesOf(tilePath({ level: "entries", index: 0, width: size }));
    const text = new TextDecoder().decode(entries);
    for (const secret of [client.id, client.key.principal, "windsurf", "default"]) {
      expect(text).not.toContain(secret);
    }
  });
});

describe("a log that fails", () => {
  /** The log's part of the bucket does not take writes. */
  function bucketAway() {
    const put = env.BUCKET.put.bind(env.BUCKET);
    return vi.spyOn(env.BUCKET, "put").mockImplementation(async (key, value, options) => {
      if (key.startsWith("log/")) throw new Error("R2 is away");
      return put(key, value, options);
    });
  }

  test("holds up neither calls nor the other sinks, and gets every head when it is back", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    {
      using _put = bucketAway();
      await flush(client.id);
      await client.call("list_files");
      expect(await sinkState(client.id, "archive")).toMatchObject({ cursor: 1 });
      expect(await client.end()).toBe(204);
      await ring(session(client.id));
      await ring(session(client.id));
      expect(await sinkState(client.id, "archive")).toMatchObject({ cursor: 3 });
      const failed = await sinkState(client.id, "log");
      expect(failed.cursor).toBe(0);
      expect(failed.failures).toBeGreaterThan(0);
      expect(logs.join("\n")).toContain('"event":"flush_failed","sink":"log"');
      // Its storage stays for as long as the log has not the close.
      expect(await tablesOf(session(client.id))).toContain("records");
    }
    await ringUntilReleased(client.id);
    expect((await leavesOf(client.id)).map((entry) => entry?.kind)).toEqual(["open", "close"]);
    expect(await tablesOf(session(client.id))).toEqual([]);
  });

  test("loses nothing that it acknowledged when its object is lost", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    await flush(client.id);
    const { size } = await readLog();
    await crash(logStub(env));
    await client.call("list_files");
    await flush(client.id);
    expect((await readLog()).size).toBe(size + 1);
    expect((await leavesOf(client.id)).map((entry) => entry?.kind)).toEqual(["open", "head"]);
  });

  test("that holds another history of a session raises an alarm, and keeps the session's storage", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    const name = genesis(sha256Hex, "default", client.id);
    const forged = { ...leaf("open", 1, 1), session: name };
    expect(await logStub(env).submit([forged])).toMatchObject({ ok: true, outcomes: ["logged"] });
    await flush(client.id);
    expect(await conflicts(client.id)).toEqual([{ sink: "log", seq: 1 }]);
    expect(logs.join("\n")).toContain('"event":"archive_conflict","found_by":"log"');
  });
});

describe("the log over HTTP", () => {
  test("has the types and cache headers of tlog-tiles, and what is not a tile is not there", async () => {
    await logStub(env).submit(openings(1000, 300));
    const { size } = await readLog();
    expect(size).toBeGreaterThan(300);
    const headers = async (path: string) => {
      const response = await get(path);
      await response.body?.cancel();
      return [
        response.status,
        response.headers.get("content-type"),
        response.headers.get("cache-control"),
      ];
    };
    const immutable = "public, max-age=31536000, immutable";
    const binary = "application/octet-stream";
    const text = "text/plain; charset=utf-8";
    expect(await headers("checkpoint")).toEqual([200, text, "public, max-age=2"]);
    expect(await headers("vkey")).toEqual([200, text, "public, max-age=2"]);
    expect(await headers("tile/0/000")).toEqual([200, binary, immutable]);
    expect(await headers("tile/entries/000")).toEqual([200, binary, immutable]);
    for (const tile of partialTiles(size)) {
      expect(await headers(tilePath(tile))).toEqual([200, binary, immutable]);
    }
    expect(await bytesOf("tile/0/000")).toHaveLength(8192);
    for (const path of [
      "tile/0/001",
      "tile/0/002.p/1",
      `tile/0/001.p/${(size % 256) + 1}`,
      "tile/1/000",
      "tile/2/000.p/1",
      "tile/0/0",
      "tile/0/000.p/256",
      "tile/",
      "tile/0/000/../001",
      "checkpoints/1",
      "",
    ]) {
      expect([path, (await get(path)).status]).toEqual([path, 404]);
    }
  });

  test("still has a partial tile whose full one has come since", async () => {
    const full = await bytesOf("tile/0/000");
    expect(await bytesOf("tile/0/000.p/17")).toEqual(full.slice(0, 17 * 32));
    const entries = decodeEntries(await bytesOf("tile/entries/000"));
    expect(decodeEntries(await bytesOf("tile/entries/000.p/5"))).toEqual(entries?.slice(0, 5));
  });
});

describe("batches", () => {
  test("put many leaves under one checkpoint, and do not count them twice", async () => {
    const { size } = await readLog();
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, i) => logStub(env).submit(openings(5000 + i, 2))),
    );
    expect(answers.every(({ ok }) => ok)).toBe(true);
    const after = await readLog();
    // 50 calls of two leaves each, all but the last shared with the next call.
    expect(after.size).toBe(size + 51);
    const { objects } = await env.BUCKET.list({ prefix: "log/checkpoints/" });
    const between = objects.filter(({ key }) => Number(key.slice(-20)) > size);
    expect(between.length).toBeLessThan(5);
  });

  test("are not spoilt by what is no leaf", async () => {
    const bad = { ...leaf("open", 9999, 1), hash_chain: "not hex" };
    expect(await logStub(env).submit([bad])).toMatchObject({ ok: false });
    expect(await logStub(env).submit(openings(9998, 1))).toMatchObject({ ok: true });
  });
});

describe("readiness", () => {
  test("shows the log, whose refusal does not make the gateway unready", async () => {
    expect((await readiness(env)).checks.log).toMatchObject({ ok: true });
    const checkpoint = await (await env.BUCKET.get("log/checkpoint"))?.text();
    await env.BUCKET.put("log/checkpoint", "not a checkpoint");
    await crash(logStub(env));
    const { status, checks } = await readiness(env);
    expect(status).toBe("ready");
    expect(checks.log).toMatchObject({
      ok: false,
      message: "the log refuses to sign: bucket_unreadable",
    });
    expect(checks.witnesses).toBeUndefined();
    await env.BUCKET.put("log/checkpoint", checkpoint ?? "");
    expect((await admin("GET", "/witnessed-logs")).body).toEqual({ logs: [], next_cursor: null });
  });
});
