/**
 * @module
 * The right edge of a growing tree: of each level the one tile that is not
 * full yet. It is all that is needed to append leaves and to compute the
 * root: at most 255 hashes a level, however large the tree has become.
 */
import type { Sha256 } from "../audit/hash.ts";
import { concatBytes } from "./bytes.ts";
import { HASH_BYTES, rootHash } from "./merkle.ts";
import {
  FULL_TILE_BYTES,
  fullTileHash,
  nodesOfTiles,
  partialTiles,
  TILE_WIDTH,
  type Tile,
} from "./tiles.ts";

/** `tiles[level]` are the concatenated hashes of the level's unfinished tile; empty where the last one is full. */
export type TreeEdge = { readonly size: number; readonly tiles: readonly Uint8Array[] };

export const EMPTY_EDGE: TreeEdge = { size: 0, tiles: [] };

export type TileBytes = { readonly tile: Tile; readonly bytes: Uint8Array };

/** The edge after `leaves` (leaf hashes), and the tiles that they completed, in order of completion. */
export function appendLeaves(
  hash: Sha256,
  edge: TreeEdge,
  leaves: readonly Uint8Array[],
): { edge: TreeEdge; full: TileBytes[] } {
  const full: TileBytes[] = [];
  const tiles = [...edge.tiles];
  let row = leaves;
  for (let level = 0; row.length > 0; level++) {
    const above: Uint8Array[] = [];
    let bytes = concatBytes(tiles[level] ?? new Uint8Array(0), ...row);
    let index = Math.floor(Math.floor(edge.size / TILE_WIDTH ** level) / TILE_WIDTH);
    while (bytes.length >= FULL_TILE_BYTES) {
      const tile = bytes.slice(0, FULL_TILE_BYTES);
      full.push({ tile: { level, index, width: TILE_WIDTH }, bytes: tile });
      above.push(fullTileHash(hash, tile));
      bytes = bytes.slice(FULL_TILE_BYTES);
      index += 1;
    }
    tiles[level] = bytes;
    row = above;
  }
  return { edge: { size: edge.size + leaves.length, tiles }, full };
}

/** The root of the tree that this is the edge of. */
export function edgeRoot(hash: Sha256, { size, tiles }: TreeEdge): Uint8Array {
  // A complete subtree that ends at the edge lies in the unfinished tile of its level.
  return rootHash(
    hash,
    nodesOfTiles(hash, (level) => tiles[level]),
    size,
  );
}

/** The partial tiles of the edge with their bytes. */
export function edgeTiles(edge: TreeEdge): TileBytes[] {
  return partialTiles(edge.size).map((tile) => ({
    tile,
    bytes: edge.tiles[Number(tile.level)] ?? new Uint8Array(0),
  }));
}

/**
 * The edge of a tree of `size` leaves from its partial tiles, or null when one
 * is missing or has another length than the size demands.
 */
export function edgeOf(
  size: number,
  bytesOf: (tile: Tile) => Uint8Array | undefined,
): TreeEdge | null {
  const tiles: Uint8Array[] = [];
  for (const tile of partialTiles(size)) {
    const bytes = bytesOf(tile);
    if (bytes?.length !== tile.width * HASH_BYTES) return null;
    while (tiles.length < Number(tile.level)) tiles.push(new Uint8Array(0));
    tiles.push(bytes);
  }
  return { size, tiles };
}
