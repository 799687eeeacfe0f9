/**
 * @module
 * The log over HTTP (C2SP tlog-tiles). Full tiles and the checkpoint come
 * from the bucket without a word to the Log object; it is asked for partial
 * tiles alone.
 */
import { admitAnybody } from "../edge/address-limit.ts";
import { logStub } from "../objects.ts";
import { sharedAnswer } from "../ops/shared-answer.ts";
import { fullTile, logBucket, TEXT } from "./bucket.ts";
import { decodeEntries, encodeEntries } from "./entries.ts";
import { HASH_BYTES } from "./merkle.ts";
import { parseTilePath, TILE_WIDTH, type Tile, tilePath } from "./tiles.ts";

const IMMUTABLE = "public, max-age=31536000, immutable";
/** A new checkpoint comes at most once a second. */
const FLEETING = "public, max-age=2";
const BYTES = "application/octet-stream";

/** `GET /log/checkpoint`; null before the first. */
export async function logCheckpoint(env: Env): Promise<Response | null> {
  const note = await logBucket(env.BUCKET).checkpoint();
  return note === null ? null : respond(note, TEXT, FLEETING);
}

/** `GET /log/vkey`: a line for each key that signs, the current one first. */
export async function logVkeys(env: Env): Promise<Response> {
  return respond((await vkeysOf(env)).map((vkey) => `${vkey}\n`).join(""), TEXT, FLEETING);
}

/** The one Log object has more to do than to say this to everybody. */
const vkeysOf = sharedAnswer({ freshMs: 2_000, patienceMs: 5_000 }, async (env) => {
  const { vkeys } = await logStub(env).status();
  return vkeys;
});

/**
 * `GET /log/tile/…`; null for what is not, or not yet, a tile of the log. Throws
 * `HttpRefusal` 429 where an address asks for too many partial ones.
 */
export async function logTile(env: Env, request: Request, path: string): Promise<Response | null> {
  const tile = parseTilePath(path);
  if (tile !== null && tile.width < TILE_WIDTH) await admitAnybody(env, request);
  const bytes = tile === null ? null : await readTile(env, tile);
  return bytes === null ? null : respond(bytes, BYTES, IMMUTABLE);
}

/**
 * The bytes of a tile or bundle of the published tree, partial or full. A partial
 * one is there, too, once its full one is: a client may have read the
 * checkpoint before.
 */
export async function readTile(env: Env, tile: Tile): Promise<Uint8Array | null> {
  const { level, width } = tile;
  if (width < TILE_WIDTH) {
    const partial = await logStub(env).partialTile(tile);
    if (partial !== "full") return partial;
  }
  const full = await fullTile(env.BUCKET, tilePath({ ...tile, width: TILE_WIDTH }));
  if (full === null || width === TILE_WIDTH) return full;
  if (level !== "entries") return full.slice(0, width * HASH_BYTES);
  return encodeEntries((decodeEntries(full) ?? []).slice(0, width));
}

function respond(body: string | Uint8Array, type: string, cacheControl: string): Response {
  const headers = { "content-type": type, "cache-control": cacheControl };
  return new Response(typeof body === "string" ? body : Uint8Array.from(body), { headers });
}
