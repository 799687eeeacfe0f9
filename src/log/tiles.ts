/**
 * @module
 * Tiles of a log (C2SP tlog-tiles): their names, widths and hashes, and which of
 * them a proof needs. A tile of level L holds up to 256 hashes, each over
 * 256^L leaves; level "entries" are the leaves themselves, in bundles.
 */
import type { Sha256 } from "../audit/hash.ts";
import {
  completeNodes,
  consistencyRanges,
  HASH_BYTES,
  inclusionRanges,
  nodeHash,
  type Range,
  type ReadNode,
} from "./merkle.ts";

/** Hashes of a full tile, entries of a full bundle. */
export const TILE_WIDTH = 256;
export const FULL_TILE_BYTES = TILE_WIDTH * HASH_BYTES;
/** Heights of the tree within one tile: 2^8 = 256. */
const TILE_HEIGHT = 8;
const MAX_LEVEL = 63;

export type TileLevel = number | "entries";

/** A tile: `width` is 256 for a full one, 1 to 255 for a partial one. */
export type Tile = { readonly level: TileLevel; readonly index: number; readonly width: number };

/** `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`, below the log's prefix. */
export function tilePath({ level, index, width }: Tile): string {
  const digits = String(index);
  const groups = digits
    .padStart(Math.ceil(digits.length / 3) * 3, "0")
    .match(/\d{3}/g)
    ?.map((group, i, all) => (i === all.length - 1 ? group : `x${group}`));
  const partial = width === TILE_WIDTH ? "" : `.p/${width}`;
  return `tile/${level}/${groups?.join("/")}${partial}`;
}

const PATH = /^tile\/(entries|0|[1-9]\d?)\/((?:x\d{3}\/){0,5}\d{3})(?:\.p\/([1-9]\d{0,2}))?$/;

/** The tile that a path names, or null. One tile has one name. */
export function parseTilePath(path: string): Tile | null {
  const match = PATH.exec(path);
  if (match === null) return null;
  const [, levelText = "", groups = "", widthText] = match;
  const level: TileLevel = levelText === "entries" ? levelText : Number(levelText);
  const tile: Tile = {
    level,
    index: Number(groups.replaceAll(/[x/]/g, "")),
    width: widthText === undefined ? TILE_WIDTH : Number(widthText),
  };
  if (!Number.isSafeInteger(tile.index * TILE_WIDTH)) return null;
  if (level !== "entries" && level > MAX_LEVEL) return null;
  // `x000/001` would be another name of `001`, and `.p/256` of the full tile.
  return tilePath(tile) === path ? tile : null;
}

/** How many hashes (or entries) a tile holds in a tree of `size` leaves: 0 where there is none yet. */
export function tileWidth(level: TileLevel, index: number, size: number): number {
  const hashes = Math.floor(size / TILE_WIDTH ** (level === "entries" ? 0 : level));
  return Math.max(0, Math.min(TILE_WIDTH, hashes - index * TILE_WIDTH));
}

/** The partial tiles of a tree, lowest level first: its right edge, where every level ends. */
export function partialTiles(size: number): Tile[] {
  const tiles: Tile[] = [];
  for (let level = 0; size >= TILE_WIDTH ** level; level++) {
    const hashes = Math.floor(size / TILE_WIDTH ** level);
    const width = hashes % TILE_WIDTH;
    if (width > 0) tiles.push({ level, index: Math.floor(hashes / TILE_WIDTH), width });
  }
  return tiles;
}

/** The tile that a node of the tree is computed from, as it is in a tree of `size` leaves. */
export function tileOfNode(height: number, index: number, size: number): Tile {
  const level = Math.floor(height / TILE_HEIGHT);
  const first = index * 2 ** (height - level * TILE_HEIGHT);
  const tile = Math.floor(first / TILE_WIDTH);
  return { level, index: tile, width: tileWidth(level, tile, size) };
}

/** The tiles from which leaf `index` is proven to be in the tree of `size` leaves, `size` ≤ `served`. */
export function tilesForInclusion(index: number, size: number, served = size): Tile[] {
  return tilesOfRanges(inclusionRanges(index, size), served);
}

/** The tiles from which the tree of `oldSize` is proven a prefix of that of `size` ≤ `served`. */
export function tilesForConsistency(oldSize: number, size: number, served = size): Tile[] {
  return tilesOfRanges(consistencyRanges(oldSize, size), served);
}

/** The tiles from which the root of `size` leaves is computed. */
export function tilesForRoot(size: number, served = size): Tile[] {
  return tilesOfRanges([{ start: 0, end: size }], served);
}

function tilesOfRanges(ranges: readonly Range[], served: number): Tile[] {
  const tiles = new Map<string, Tile>();
  for (const { start, end } of ranges) {
    for (const { height, index } of completeNodes(start, end)) {
      const tile = tileOfNode(height, index, served);
      tiles.set(tilePath(tile), tile);
    }
  }
  return [...tiles.values()];
}

/**
 * Reads nodes of a tree from its tiles. `tileAt` gives the bytes of a tile,
 * partial or full, as far as the caller has them.
 *
 * @throws RangeError when a tile is not there or too short.
 */
export function nodesOfTiles(
  hash: Sha256,
  tileAt: (level: number, index: number) => Uint8Array | undefined,
): ReadNode {
  return (height, index) => {
    const level = Math.floor(height / TILE_HEIGHT);
    const width = 2 ** (height - level * TILE_HEIGHT);
    const first = index * width;
    const tile = Math.floor(first / TILE_WIDTH);
    const bytes = tileAt(level, tile);
    const from = (first % TILE_WIDTH) * HASH_BYTES;
    const to = from + width * HASH_BYTES;
    if (bytes === undefined || bytes.length < to) {
      throw new RangeError(`tile ${level}/${tile} does not hold what is asked for`);
    }
    return fold(hash, bytes, from, to);
  };
}

/** The root of a complete subtree, from the concatenated hashes of its leaves. */
function fold(hash: Sha256, bytes: Uint8Array, from: number, to: number): Uint8Array {
  if (to - from === HASH_BYTES) return bytes.slice(from, to);
  const middle = (from + to) / 2;
  return nodeHash(hash, fold(hash, bytes, from, middle), fold(hash, bytes, middle, to));
}

/** The hash that a full tile has in the tile above it. */
export function fullTileHash(hash: Sha256, bytes: Uint8Array): Uint8Array {
  if (bytes.length !== FULL_TILE_BYTES) throw new RangeError("not a full tile");
  return fold(hash, bytes, 0, FULL_TILE_BYTES);
}
