/**
 * @module
 * The log's writer over an object's storage and a bucket, without the sessions
 * before it and the pace of one commit a second: what a log of any size costs.
 */
import { DurableObject } from "cloudflare:workers";
import { sha256Bytes, sha256Hex } from "../src/audit/hash-node.ts";
import { fullTile, logBucket } from "../src/log/bucket.ts";
import { logSigners } from "../src/log/keys.ts";
import { inclusionProof } from "../src/log/merkle.ts";
import type { OfferedLeaf } from "../src/log/sequence.ts";
import { LogStore } from "../src/log/store.ts";
import { nodesOfTiles, TILE_WIDTH, tilePath, tilesForInclusion } from "../src/log/tiles.ts";
import { LogWriter } from "../src/log/writer.ts";

const ORIGIN = "bench.example/log";
const SEED = new Uint8Array(32).fill(1);

type GrowthEnv = {
  readonly GROWTH: DurableObjectNamespace<GrowthObject>;
  readonly BUCKET: R2Bucket;
};

export class GrowthObject extends DurableObject<GrowthEnv> {
  readonly #store: LogStore;
  #writer: LogWriter | null = null;

  constructor(ctx: DurableObjectState, env: GrowthEnv) {
    super(ctx, env);
    this.#store = new LogStore(ctx.storage);
  }

  /** Appends the opening leaves of so many more sessions, in one commit. */
  async grow(count: number): Promise<number> {
    this.#writer ??= await LogWriter.open({
      store: this.#store,
      bucket: logBucket(this.env.BUCKET),
      origin: ORIGIN,
      signers: await logSigners(ORIGIN, [SEED]),
      alarm: (alarm) => console.error(alarm),
    });
    const from = this.#writer.size;
    const leaves = Array.from({ length: count }, (_, i): OfferedLeaf => {
      const session = sha256Hex(`session ${from + i}`);
      return { kind: "open", seq: 1, session, hash_chain: session };
    });
    await this.#writer.commit(leaves, Date.now());
    return this.#writer.size;
  }

  /** Makes the inclusion proof of a leaf, tiles and all; its length. */
  async prove(index: number): Promise<number> {
    const size = this.#store.latest()?.size ?? 0;
    const { edge } = this.#store.load();
    const tiles = new Map<string, Uint8Array>();
    for (const tile of tilesForInclusion(index, size)) {
      const bytes =
        tile.width === TILE_WIDTH
          ? await fullTile(this.env.BUCKET, tilePath(tile))
          : edge.get(Number(tile.level));
      if (bytes !== null && bytes !== undefined) tiles.set(`${tile.level}/${tile.index}`, bytes);
    }
    const read = nodesOfTiles(sha256Bytes, (level, n) => tiles.get(`${level}/${n}`));
    return inclusionProof(sha256Bytes, read, index, size).length;
  }

  /** Bytes of the tree that a life of the object holds. */
  held(): number {
    const { edge, tail } = this.#store.load();
    return [...edge.values()].reduce((sum, { length }) => sum + length, tail.length);
  }
}

export default {
  async fetch(request, env) {
    const { pathname, searchParams } = new URL(request.url);
    const log = env.GROWTH.get(env.GROWTH.idFromName("log"));
    const n = Number(searchParams.get("n"));
    if (pathname === "/grow") return Response.json(await log.grow(n));
    if (pathname === "/prove") return Response.json(await log.prove(n));
    return Response.json(await log.held());
  },
} satisfies ExportedHandler<GrowthEnv>;
