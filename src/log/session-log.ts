/**
 * @module
 * What the log holds of a session, for its bundle: its leaves with their
 * proofs, all under one checkpoint, and the checkpoints around them.
 */
import { sha256Bytes } from "../audit/hash-node.ts";
import { requireConfig } from "../config.ts";
import { logStub } from "../objects.ts";
import type { BundleLogText } from "../verify/bundle.ts";
import { logBucket } from "./bucket.ts";
import { encodeBase64 } from "./bytes.ts";
import { checkpointOf } from "./checkpoint.ts";
import { decodeEntries } from "./entries.ts";
import { logSigners } from "./keys.ts";
import { readTile } from "./log-routes.ts";
import { inclusionProof } from "./merkle.ts";
import { formatVkey, parseVkey, type VerifierKey } from "./note.ts";
import { type LogReader, LogUnreadable } from "./reader.ts";
import {
  nodesOfTiles,
  TILE_WIDTH,
  type Tile,
  tilePath,
  tilesForInclusion,
  tileWidth,
} from "./tiles.ts";

/** The keys that this deployment signs its log with, the current one first, and those that it has signed it with before. */
export async function ownLogKeys(env: Env): Promise<VerifierKey[]> {
  const former = await logStub(env).retiredKeys();
  return [...(await signingKeys(env)), ...former.flatMap((vkey) => parseVkey(vkey) ?? [])];
}

async function signingKeys(env: Env): Promise<VerifierKey[]> {
  const { logOrigin, logSeeds } = requireConfig(env);
  return (await logSigners(logOrigin, logSeeds)).map(({ key }) => key);
}

/** This deployment's log, read as anybody else reads it. */
export function ownLogReader(env: Env): LogReader {
  return {
    checkpoint: async () => {
      const note = await logBucket(env.BUCKET).checkpoint();
      if (note === null) throw new LogUnreadable("the log has no checkpoint");
      return note;
    },
    tile: (tile) => readTile(env, tile),
  };
}

/** How the kinds of leaves begin that are of no record. */
const RETIRED = "retire";

/**
 * The log's part of a session's bundle; null while nothing of it is anchored.
 * `session` is its genesis. The first and the newest leaf, of a retired session
 * the newest of its chain too, or every one.
 *
 * @throws LogUnreadable when a tile is not there that must be.
 */
export async function sessionLog(
  env: Env,
  session: string,
  all: boolean,
): Promise<BundleLogText | null> {
  const stub = logStub(env);
  const rows = await stub.leavesOf(session);
  const newest = rows.at(-1);
  if (newest === undefined) return null;
  const note = await bestCheckpoint(stub, newest.index);
  const checkpoint = note === null ? null : checkpointOf(note);
  if (note === null || checkpoint === null) return null;

  // A retirement says that the records are gone, and the leaf before it what the last of them was.
  const head = rows.findLast(({ kind }) => !kind.startsWith(RETIRED));
  const chosen = all ? rows : rows.filter((row, i) => i === 0 || row === head || row === newest);
  const { sizes, notes } = await stub.bounds(chosen.map(({ index }) => index));
  const tiles = new TileCache(env);
  const leaves: BundleLogText["leaves"] = [];
  for (const [i, { index }] of chosen.entries()) {
    leaves.push({
      index,
      entry: await tiles.entry(index, checkpoint.size),
      proof: await tiles.proof(index, checkpoint.size),
      before: sizes[i]?.before ?? null,
      after: sizes[i]?.after ?? null,
    });
  }
  const [key] = await signingKeys(env);
  return {
    origin: checkpoint.origin,
    vkey: key === undefined ? "" : formatVkey(key),
    checkpoint: note,
    leaves,
    checkpoints: Object.fromEntries([...notes].map(([size, text]) => [String(size), text])),
  };
}

/** The newest checkpoint that witnesses have cosigned, where the session's newest leaf is in it; else the newest. */
async function bestCheckpoint(
  stub: ReturnType<typeof logStub>,
  newestIndex: number,
): Promise<string | null> {
  const witnessed = await stub.witnessedCheckpoint();
  const size = witnessed === null ? 0 : (checkpointOf(witnessed)?.size ?? 0);
  return size > newestIndex ? witnessed : stub.checkpoint();
}

/** Tiles of one request: the proofs of neighbours share nearly all of them. */
class TileCache {
  readonly #env: Env;
  readonly #tiles = new Map<string, Uint8Array>();

  constructor(env: Env) {
    this.#env = env;
  }

  async entry(index: number, size: number): Promise<string> {
    const bundle = Math.floor(index / TILE_WIDTH);
    const width = tileWidth("entries", bundle, size);
    const bytes = await this.#read({ level: "entries", index: bundle, width });
    const entry = decodeEntries(bytes)?.[index % TILE_WIDTH];
    if (entry === undefined) throw new LogUnreadable(`entry ${index} is not there`);
    return new TextDecoder().decode(entry);
  }

  async proof(index: number, size: number): Promise<string[]> {
    const tiles = new Map<string, Uint8Array>();
    for (const tile of tilesForInclusion(index, size)) {
      tiles.set(`${tile.level}/${tile.index}`, await this.#read(tile));
    }
    const nodes = nodesOfTiles(sha256Bytes, (level, n) => tiles.get(`${level}/${n}`));
    return inclusionProof(sha256Bytes, nodes, index, size).map(encodeBase64);
  }

  async #read(tile: Tile): Promise<Uint8Array> {
    const path = tilePath(tile);
    const bytes = this.#tiles.get(path) ?? (await readTile(this.#env, tile));
    if (bytes === null) throw new LogUnreadable(`${path} is not there`);
    this.#tiles.set(path, bytes);
    return bytes;
  }
}
