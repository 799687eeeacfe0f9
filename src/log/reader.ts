/**
 * @module
 * A log as a stranger reads it: its checkpoint and its tiles (C2SP tlog-tiles),
 * from wherever they are. Nothing here is verified but lengths; who asks
 * compares with a signed root.
 */
import type { Sha256 } from "../audit/hash.ts";
import { decodeEntries } from "./entries.ts";
import { HASH_BYTES, type ReadNode } from "./merkle.ts";
import {
  nodesOfTiles,
  TILE_WIDTH,
  type Tile,
  tilePath,
  tilesForConsistency,
  tilesForRoot,
  tileWidth,
} from "./tiles.ts";

/** Where a log is read from. Both throw {@link LogUnreadable} when they cannot tell. */
export type LogReader = {
  /** The signed checkpoint. */
  checkpoint(): Promise<string>;
  /** The bytes of a tile, or null when there is none of that name. */
  tile(tile: Tile): Promise<Uint8Array | null>;
};

/** A log, or a part of it, cannot be read: nothing is said about what it holds. */
export class LogUnreadable extends Error {
  constructor(detail: string) {
    super(detail);
    this.name = "LogUnreadable";
  }
}

/**
 * The first `width` hashes or entries of a tile. A log may drop a partial tile once
 * the full one is there, and a copy of a bucket has full ones only.
 */
async function anyTile(reader: LogReader, tile: Tile): Promise<Uint8Array> {
  const bytes =
    (await reader.tile(tile)) ??
    (tile.width === TILE_WIDTH ? null : await reader.tile({ ...tile, width: TILE_WIDTH }));
  if (bytes === null) throw new LogUnreadable(`${tilePath(tile)} is not there`);
  return bytes;
}

/** The hashes of a tile, exactly as many as it is wide. */
export async function readHashes(reader: LogReader, tile: Tile): Promise<Uint8Array> {
  const bytes = await anyTile(reader, tile);
  const length = tile.width * HASH_BYTES;
  if (bytes.length < length) throw new LogUnreadable(`${tilePath(tile)} is too short`);
  return bytes.slice(0, length);
}

/** Entries of a log in bundles, in order: those from a multiple of 256 up to `size`. */
export async function* readEntries(
  reader: LogReader,
  size: number,
  from = 0,
): AsyncGenerator<{ readonly first: number; readonly entries: readonly Uint8Array[] }> {
  for (let first = from; first < size; first += TILE_WIDTH) {
    const index = first / TILE_WIDTH;
    const tile: Tile = { level: "entries", index, width: tileWidth("entries", index, size) };
    const entries = decodeEntries(await anyTile(reader, tile));
    if (entries === null || entries.length < tile.width) {
      throw new LogUnreadable(`${tilePath(tile)} is no bundle of ${tile.width} entries`);
    }
    yield { first, entries: entries.slice(0, tile.width) };
  }
}

/** The nodes from which roots of, and consistency between, two sizes of a log are computed. */
export async function readNodes(
  hash: Sha256,
  reader: LogReader,
  oldSize: number,
  size: number,
): Promise<ReadNode> {
  const tiles = new Map<string, Uint8Array>();
  for (const tile of [...tilesForConsistency(oldSize, size), ...tilesForRoot(size)]) {
    const key = `${tile.level}/${tile.index}`;
    if (!tiles.has(key)) tiles.set(key, await readHashes(reader, tile));
  }
  return nodesOfTiles(hash, (level, index) => tiles.get(`${level}/${index}`));
}
