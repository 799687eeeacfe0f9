/**
 * @module
 * The anchoring delay: from the answer of a call to a published checkpoint that
 * covers its record, as a reader of the log sees it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { checkpointOf } from "../src/log/checkpoint.ts";
import { decodeEntries } from "../src/log/entries.ts";
import { parseLeaf } from "../src/log/leaf.ts";
import { TILE_WIDTH, tilePath } from "../src/log/tiles.ts";
import type { GatewayClient } from "./client.ts";
import { median } from "./stats.ts";

const SESSIONS = 8;
/** Sessions act one after the other, so that their flushes fall at different times of the log's second. */
const APART_MS = 370;
const POLL_MS = 50;
/** `FLUSH_INTERVAL_SECONDS` of wrangler.toml. */
const FLUSH_INTERVAL_MS = 5_000;
/** What is promised: 2 × `FLUSH_INTERVAL_SECONDS` + 2 s. */
export const ANCHORING_LIMIT_MS = 2 * FLUSH_INTERVAL_MS + 2_000;
const PATIENCE_MS = 10 * ANCHORING_LIMIT_MS;

export type Anchoring = { readonly p50_ms: number; readonly max_ms: number };

export async function measureAnchoring(
  client: GatewayClient,
  signal: AbortSignal,
): Promise<Anchoring> {
  const delays: Promise<number>[] = [];
  const log = new LogReader(client.url);
  await log.catchUp();
  for (let i = 0; i < SESSIONS; i++) {
    const session = await client.openSession(`/srv/bench/anchored-${i}`);
    const { hash_chain } = await client.receipt(session);
    delays.push(anchored(log, hash_chain, performance.now(), signal));
    await sleep(APART_MS, undefined, { signal });
  }
  const all = await Promise.all(delays);
  return { p50_ms: median(all), max_ms: Math.max(...all) };
}

/** The receipt's record is the session's newest: its hash is in a `head` leaf. */
async function anchored(
  log: LogReader,
  hashChain: string,
  since: number,
  signal: AbortSignal,
): Promise<number> {
  for (;;) {
    await log.catchUp();
    const now = performance.now();
    if (log.has(hashChain)) return now - since;
    if (now - since > PATIENCE_MS) throw new Error("A record was never anchored.");
    await sleep(POLL_MS, undefined, { signal });
  }
}

/** Follows the log by its checkpoints and entry bundles. */
class LogReader {
  readonly #url: URL;
  readonly #hashes = new Set<string>();
  #size = 0;
  #reading: Promise<void> | null = null;

  constructor(url: URL) {
    this.#url = url;
  }

  has(hashChain: string): boolean {
    return this.#hashes.has(hashChain);
  }

  async catchUp(): Promise<void> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = null;
    });
    await this.#reading;
  }

  async #read(): Promise<void> {
    const note = await this.#get("checkpoint");
    const size = note === null ? 0 : (checkpointOf(await note.text())?.size ?? 0);
    for (let at = this.#size; at < size; ) {
      const index = Math.floor(at / TILE_WIDTH);
      const width = Math.min(TILE_WIDTH, size - index * TILE_WIDTH);
      const bundle = await this.#get(tilePath({ level: "entries", index, width }));
      const bytes = await bundle?.arrayBuffer();
      const entries = bytes === undefined ? null : decodeEntries(new Uint8Array(bytes));
      if (entries === null) throw new Error("The log does not serve its entries.");
      for (const entry of entries) {
        const leaf = parseLeaf(entry);
        if (leaf !== null && leaf.kind !== "key") this.#hashes.add(leaf.hash_chain);
      }
      at = index * TILE_WIDTH + width;
    }
    this.#size = size;
  }

  async #get(path: string): Promise<Response | null> {
    const response = await fetch(new URL(`/log/${path}`, this.#url));
    if (response.ok) return response;
    await response.body?.cancel();
    return null;
  }
}
