import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { sha256Bytes as hash } from "../../src/audit/hash-node.ts";
import { concatBytes, toHex } from "../../src/log/bytes.ts";
import { decodeEntries, encodeEntries } from "../../src/log/entries.ts";
import {
  consistencyProof,
  inclusionProof,
  leafHash,
  nodesOfLeaves,
  rootHash,
} from "../../src/log/merkle.ts";
import {
  nodesOfTiles,
  parseTilePath,
  partialTiles,
  type Tile,
  tilePath,
  tilesForConsistency,
  tilesForInclusion,
  tilesForRoot,
  tileWidth,
} from "../../src/log/tiles.ts";
import { appendLeaves, EMPTY_EDGE, edgeOf, edgeRoot, edgeTiles } from "../../src/log/tree-edge.ts";

describe("tile paths", () => {
  it.each([
    [{ level: 0, index: 1234067, width: 256 }, "tile/0/x001/x234/067"],
    [{ level: 0, index: 0, width: 256 }, "tile/0/000"],
    [{ level: 1, index: 999, width: 17 }, "tile/1/999.p/17"],
    [{ level: 2, index: 1000, width: 1 }, "tile/2/x001/000.p/1"],
    [{ level: "entries", index: 5, width: 255 }, "tile/entries/005.p/255"],
  ] satisfies [Tile, string][])("writes and reads %j", (tile, path) => {
    expect(tilePath(tile)).toBe(path);
    expect(parseTilePath(path)).toEqual(tile);
  });

  it.each([
    "tile/0/0",
    "tile/0/1234",
    "tile/00/000",
    "tile/64/000",
    "tile/0/x000/001",
    "tile/0/000.p/0",
    "tile/0/000.p/256",
    "tile/0/000.p/01",
    "tile/0/000/",
    "tile/0/000.p/1/",
    "/tile/0/000",
    "tile/data/000",
    "tile/0/001/000",
    "tile/0/x999/x999/x999/x999/x999/999",
  ])("has no second name such as %s", (path) => {
    expect(parseTilePath(path)).toBeNull();
  });

  it("reads back every tile that it writes", () => {
    const tile = fc.record({
      level: fc.oneof(fc.integer({ min: 0, max: 63 }), fc.constant("entries" as const)),
      index: fc.integer({ min: 0, max: 2 ** 45 - 1 }),
      width: fc.integer({ min: 1, max: 256 }),
    });
    fc.assert(
      fc.property(tile, (t) => {
        expect(parseTilePath(tilePath(t))).toEqual(t);
      }),
    );
  });
});

describe("widths", () => {
  it("are those of a tree of 70,000 leaves", () => {
    expect(partialTiles(70_000)).toEqual([
      { level: 0, index: 273, width: 112 },
      { level: 1, index: 1, width: 17 },
      { level: 2, index: 0, width: 1 },
    ]);
    expect(tileWidth(0, 272, 70_000)).toBe(256);
    expect(tileWidth(1, 0, 70_000)).toBe(256);
    expect(tileWidth(0, 274, 70_000)).toBe(0);
    expect(tileWidth("entries", 273, 70_000)).toBe(112);
  });

  it("are a full tile and a partial one above it at 256", () => {
    expect(partialTiles(256)).toEqual([{ level: 1, index: 0, width: 1 }]);
    expect(tileWidth(0, 0, 256)).toBe(256);
    expect(partialTiles(0)).toEqual([]);
  });
});

const SIZE = 70_000;
const leaves = Array.from({ length: SIZE }, (_, i) =>
  leafHash(hash, Uint8Array.of(i >> 16, i >> 8, i)),
);
const reference = nodesOfLeaves(hash, leaves);

describe("a tree that grows by its edge", () => {
  it("has the root of the whole tree, and completes each tile once, whatever the batches", () => {
    const batches = fc.array(fc.integer({ min: 0, max: 900 }), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(batches, (sizes) => {
        let edge = EMPTY_EDGE;
        const seen: string[] = [];
        for (const batch of sizes) {
          const next = appendLeaves(hash, edge, leaves.slice(edge.size, edge.size + batch));
          edge = next.edge;
          seen.push(...next.full.map(({ tile }) => tilePath(tile)));
          expect(toHex(edgeRoot(hash, edge))).toBe(toHex(rootHash(hash, reference, edge.size)));
        }
        expect(new Set(seen).size).toBe(seen.length);
        expect(seen.filter((path) => path.startsWith("tile/0/"))).toHaveLength(
          Math.floor(edge.size / 256),
        );
        const kept = new Map(edgeTiles(edge).map(({ tile, bytes }) => [tilePath(tile), bytes]));
        const loaded = edgeOf(edge.size, (tile) => kept.get(tilePath(tile)));
        expect(loaded === null ? null : toHex(edgeRoot(hash, loaded))).toBe(
          toHex(edgeRoot(hash, edge)),
        );
      }),
      { numRuns: 40 },
    );
  });

  const { edge, full } = appendLeaves(hash, EMPTY_EDGE, leaves);
  const stored = new Map(
    [...full, ...edgeTiles(edge)].map(({ tile, bytes }) => [tilePath(tile), bytes]),
  );

  it("keeps no more than 255 hashes a level", () => {
    expect(edge.tiles.map(({ length }) => length / 32)).toEqual([112, 17, 1]);
    expect(full).toHaveLength(274);
    expect(toHex(edgeRoot(hash, edge))).toBe(toHex(rootHash(hash, reference, SIZE)));
  });

  it("gives every proof from just the tiles that are named for it", () => {
    const pair = fc
      .integer({ min: 1, max: SIZE })
      .chain((size) => fc.tuple(fc.constant(size), fc.nat(size - 1)));
    fc.assert(
      fc.property(pair, ([size, index]) => {
        const from = (tiles: Tile[]) => {
          const names = new Map(tiles.map((t) => [`${t.level}/${t.index}`, tilePath(t)]));
          return nodesOfTiles(hash, (level, n) => stored.get(names.get(`${level}/${n}`) ?? ""));
        };
        expect(
          inclusionProof(hash, from(tilesForInclusion(index, size, SIZE)), index, size),
        ).toEqual(inclusionProof(hash, reference, index, size));
        expect(
          consistencyProof(hash, from(tilesForConsistency(index, size, SIZE)), index, size),
        ).toEqual(consistencyProof(hash, reference, index, size));
        expect(rootHash(hash, from(tilesForRoot(size, SIZE)), size)).toEqual(
          rootHash(hash, reference, size),
        );
      }),
      { numRuns: 60 },
    );
  });

  it("does not load an edge with a tile missing or of another length", () => {
    expect(edgeOf(SIZE, () => undefined)).toBeNull();
    expect(edgeOf(SIZE, () => new Uint8Array(32))).toBeNull();
  });
});

describe("entry bundles", () => {
  it("come back as they were, and any cut is noticed", () => {
    const entries = fc.array(fc.uint8Array({ maxLength: 400 }), { maxLength: 256 });
    fc.assert(
      fc.property(entries, fc.nat(), (list, at) => {
        const bytes = encodeEntries(list);
        expect(decodeEntries(bytes)).toEqual(list);
        const cut = bytes.slice(0, at % (bytes.length + 1));
        const read = decodeEntries(cut);
        if (read !== null) expect(list.slice(0, read.length)).toEqual(read);
      }),
    );
  });

  it("prefix each entry with its length, big-endian", () => {
    expect(toHex(encodeEntries([Uint8Array.of(7), new Uint8Array(300)])).slice(0, 12)).toBe(
      "000107012c00",
    );
  });

  it("refuse what they cannot hold", () => {
    expect(() => encodeEntries([new Uint8Array(65_536)])).toThrow(RangeError);
    expect(decodeEntries(encodeEntries([new Uint8Array(65_535)]))).toHaveLength(1);
    const tooMany = concatBytes(...Array.from({ length: 257 }, () => new Uint8Array(2)));
    expect(decodeEntries(tooMany)).toBeNull();
    expect(decodeEntries(Uint8Array.of(0))).toBeNull();
  });
});
