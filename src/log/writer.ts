/**
 * @module
 * The writer of the log: opens it from its stores, and appends. A commit goes
 * the same way every time:
 *
 *   1. tiles, root and signature in memory
 *   2. a staged copy in the object's storage
 *   3. compare-and-swap of the checkpoint in the object's storage
 *   4. full tiles and bundles to the bucket, and the copy of the checkpoint; written once
 *   5. `log/checkpoint` to the bucket
 *   6. what is needed to go on, in the object's storage; the staged copy goes
 *
 * and only then are the leaves acknowledged. A signed checkpoint leaves memory
 * after step 2 alone, and what is staged is always carried through, so that no
 * size is ever signed twice with different roots. After any error the writer
 * is no longer to be used: another one, opened from the stores, finds out what
 * was persisted and goes on from there, or refuses.
 */
import { sha256Bytes as hash } from "../audit/hash-node.ts";
import type { AlarmBeside } from "../ops/alerts/alarm.ts";
import { logEvent } from "../ops/log.ts";
import { copyName, type LogBucket, TEXT } from "./bucket.ts";
import { equalBytes } from "./bytes.ts";
import { type Checkpoint, checkpointOf, formatCheckpoint } from "./checkpoint.ts";
import { TIME_TOLERANCE_SECONDS } from "./cosignature.ts";
import { decodeEntries, encodeEntries } from "./entries.ts";
import { type Leaf, leafSchema, leafText } from "./leaf.ts";
import { leafHash } from "./merkle.ts";
import { formatVkey, type NoteSigner, signNote } from "./note.ts";
import { LogRefused } from "./refusal.ts";
import { type OfferedLeaf, type Outcome, sequence } from "./sequence.ts";
import type { Head, LoadedLog, LogStore, Staged } from "./store.ts";
import { TILE_WIDTH, tilePath } from "./tiles.ts";
import { appendLeaves, edgeOf, edgeRoot, type TileBytes, type TreeEdge } from "./tree-edge.ts";

/** No cosignature moves the log's time further ahead of the clock than an honest one can. */
const MAX_AHEAD_MS = TIME_TOLERANCE_SECONDS * 1000;

export type LogDeps = {
  readonly store: LogStore;
  readonly bucket: LogBucket;
  readonly origin: string;
  /** The current key's, and during a rotation the next one's. */
  readonly signers: readonly NoteSigner[];
  readonly alarm: AlarmBeside;
};

/** The published tree as far as appending needs it. */
type Tree = { readonly edge: TreeEdge; readonly tail: readonly Uint8Array[] };

/** A tree and what its commit adds to the bucket. */
type Grown = Tree & { readonly full: readonly TileBytes[]; readonly bundles: readonly TileBytes[] };

export class LogWriter {
  readonly #deps: LogDeps;
  #tree: Tree;
  /** Time of the newest checkpoint and of its cosignatures: leaves are not older. */
  #notBefore: number;

  private constructor(deps: LogDeps, tree: Tree) {
    this.#deps = deps;
    this.#tree = tree;
    this.#notBefore = deps.store.latest()?.at ?? 0;
  }

  /**
   * Opens the log: checks what the object remembers against the bucket, and
   * carries through a commit that was interrupted.
   *
   * @throws LogRefused when the stores contradict each other; anything else when one does not answer.
   */
  static async open(deps: LogDeps): Promise<LogWriter> {
    const loaded = deps.store.load();
    checkOrigin(deps.origin, loaded);
    checkKeys(deps);
    const tree = publishedTree(deps.store, loaded);
    const { head, staged } = loaded;
    const bucketSize = await checkBucket(deps, head);
    const writer = new LogWriter(deps, tree);
    if (staged !== null) await writer.#replay(head, staged);
    else if (head !== null && bucketSize < head.size) await writer.#republish(head);
    return writer;
  }

  get size(): number {
    return this.#tree.edge.size;
  }

  /** Appends what is new of the offered leaves; all of it is published when this resolves. */
  async commit(offered: readonly OfferedLeaf[], nowMs: number): Promise<Outcome[]> {
    const { store, signers, origin } = this.#deps;
    const { outcomes, fresh } = sequence(offered, store);
    const cosignedAt = Math.min(store.latest()?.cosignedAt ?? 0, nowMs + MAX_AHEAD_MS);
    const at = Math.max(nowMs, this.#notBefore, cosignedAt);
    const timestamp = new Date(at).toISOString();
    // What is staged is carried through: a leaf that no reader takes would stop the log for good.
    const leaves = leafSchema
      .array()
      .parse([
        ...this.#keyLeaves(timestamp),
        ...fresh.map((leaf) => ({ ...leaf, timestamp, v: 1 as const })),
      ]);
    if (leaves.length === 0) return outcomes;
    const entries = leaves.map(leafText);
    const grown = grow(this.#tree, entries);
    const text = formatCheckpoint({
      origin,
      size: grown.edge.size,
      root: edgeRoot(hash, grown.edge),
    });
    const staged: Staged = {
      base: this.size,
      note: await signNote(text, signers),
      entries,
      vkeys: signers.map(({ key }) => formatVkey(key)),
      at,
    };
    await store.stage(staged);
    await this.#swap(staged, grown);
    await this.#publish(staged, grown);
    return outcomes;
  }

  /** Carries a staged commit through, from whichever step it was interrupted at. */
  async #replay(head: Head | null, staged: Staged): Promise<void> {
    const checkpoint = checkpointOf(staged.note);
    const grown = grow(this.#tree, staged.entries);
    if (
      staged.base !== this.size ||
      checkpoint?.size !== grown.edge.size ||
      !equalBytes(checkpoint.root, edgeRoot(hash, grown.edge))
    ) {
      throw new LogRefused("staged_mismatch", `the commit from ${staged.base}`);
    }
    if ((head?.size ?? 0) === staged.base) await this.#swap(staged, grown);
    else if (head?.note !== staged.note) {
      throw new LogRefused(
        "staged_mismatch",
        `the checkpoint of ${head?.size} is not the staged one`,
      );
    }
    await this.#publish(staged, grown);
    logEvent("warn", "log_replayed", { size: grown.edge.size });
  }

  async #swap(staged: Staged, grown: Grown): Promise<void> {
    const next = { size: grown.edge.size, note: staged.note };
    if (!(await this.#deps.store.swap(staged.base, next))) {
      throw new LogRefused("lost_race", `the checkpoint of ${staged.base} was overtaken`);
    }
  }

  async #publish(staged: Staged, grown: Grown): Promise<void> {
    const { bucket, store } = this.#deps;
    const { size } = grown.edge;
    await allOf(
      [...grown.full, ...grown.bundles].map(({ tile, bytes }) =>
        this.#putOnce(tilePath(tile), bytes),
      ),
    );
    await this.#putCopy({ size, note: staged.note });
    await bucket.putCheckpoint(staged.note);
    await store.finish({
      staged,
      size,
      edge: grown.edge.tiles,
      tail: encodeEntries(grown.tail),
    });
    this.#tree = { edge: grown.edge, tail: grown.tail };
    this.#notBefore = staged.at;
  }

  async #putOnce(name: string, bytes: Uint8Array, contentType?: string): Promise<void> {
    if ((await this.#deps.bucket.putOnce(name, bytes, contentType)) === "conflict") {
      throw new LogRefused("write_conflict", name);
    }
  }

  /** The bucket has fallen behind although nothing was under way: someone put an older checkpoint there. */
  async #republish(head: Head): Promise<void> {
    this.#deps.alarm(
      "log_bucket_rolled_back",
      "The bucket showed an older checkpoint; it was put right.",
      {
        size: head.size,
      },
    );
    await this.#putCopy(head);
    await this.#deps.bucket.putCheckpoint(
      this.#deps.store.checkpoint(head.size)?.note ?? head.note,
    );
  }

  #putCopy({ size, note }: Head): Promise<void> {
    return this.#putOnce(copyName(size), new TextEncoder().encode(note), TEXT);
  }

  #keyLeaves(timestamp: string): Leaf[] {
    const known = this.#deps.store.keys();
    // The first keys need no leaf: the first checkpoint is signed by them.
    if (known.length === 0) return [];
    const active = new Set(known.flatMap(({ vkey, retired }) => (retired ? [] : [vkey])));
    const configured = new Set(this.#deps.signers.map(({ key }) => formatVkey(key)));
    const leaf = (action: "add" | "retire") => (vkey: string) =>
      ({ v: 1, kind: "key", action, vkey, timestamp }) as const;
    return [
      ...[...configured].filter((vkey) => !active.has(vkey)).map(leaf("add")),
      ...[...active].filter((vkey) => !configured.has(vkey)).map(leaf("retire")),
    ];
  }
}

/** The tree with the entries appended, the tiles and bundles that they completed. */
function grow(tree: Tree, entries: readonly string[]): Grown {
  const added = entries.map((entry) => new TextEncoder().encode(entry));
  const { edge, full } = appendLeaves(
    hash,
    tree.edge,
    added.map((entry) => leafHash(hash, entry)),
  );
  const bundles: TileBytes[] = [];
  let tail = [...tree.tail, ...added];
  for (let index = Math.floor(tree.edge.size / TILE_WIDTH); tail.length >= TILE_WIDTH; index++) {
    const tile = { level: "entries", index, width: TILE_WIDTH } as const;
    bundles.push({ tile, bytes: encodeEntries(tail.slice(0, TILE_WIDTH)) });
    tail = tail.slice(TILE_WIDTH);
  }
  return { edge, full, bundles, tail };
}

function checkOrigin(origin: string, { head, staged }: LoadedLog): void {
  const note = head?.note ?? staged?.note;
  const frozen = note === undefined ? origin : checkpointOf(note)?.origin;
  if (frozen !== origin) {
    throw new LogRefused("origin_changed", `it is ${frozen}, LOG_ORIGIN says ${origin}`);
  }
}

/** A key comes in beside one that signs already: a log whose keys all change at once is another's. */
function checkKeys({ store, signers }: LogDeps): void {
  const known = store.keys();
  if (known.length === 0) return;
  const configured = signers.map(({ key }) => formatVkey(key));
  const isKnown = (vkey: string, retired: boolean) =>
    known.some((row) => row.vkey === vkey && row.retired === retired);
  if (!configured.some((vkey) => isKnown(vkey, false))) {
    throw new LogRefused("keys_changed", "none of the configured keys has signed this log");
  }
  if (configured.some((vkey) => isKnown(vkey, true))) {
    throw new LogRefused("keys_changed", "a retired key cannot come back");
  }
}

/** The published tree, checked against the root that was signed for it. */
function publishedTree(store: LogStore, { head, staged, edge, tail }: LoadedLog): Tree {
  const size = staged?.base ?? head?.size ?? 0;
  const published = size === 0 ? null : checkpointOf(store.checkpoint(size)?.note ?? "");
  const tree = edgeOf(size, ({ level }) => edge.get(Number(level)));
  const entries = decodeEntries(tail);
  const isWhole =
    tree !== null &&
    entries !== null &&
    (size === 0 || (published !== null && equalBytes(edgeRoot(hash, tree), published.root))) &&
    isTailOf(entries, tree);
  if (!isWhole) throw new LogRefused("edge_mismatch", `the tree of ${size}`);
  return { edge: tree, tail: entries };
}

function isTailOf(entries: readonly Uint8Array[], { size, tiles }: TreeEdge): boolean {
  if (entries.length !== size % TILE_WIDTH) return false;
  const hashes = tiles[0] ?? new Uint8Array(0);
  return entries.every((entry, i) =>
    equalBytes(leafHash(hash, entry), hashes.subarray(i * 32, (i + 1) * 32)),
  );
}

/**
 * Compares the bucket with the object; the size of the bucket's checkpoint, 0 for
 * none. An older bucket is fine, for the object writes first.
 */
async function checkBucket({ bucket, store, origin }: LogDeps, head: Head | null): Promise<number> {
  const size = head?.size ?? 0;
  const [text, copy, newer] = await Promise.all([
    bucket.checkpoint(),
    head === null ? null : bucket.copy(size),
    bucket.copyAfter(size),
  ]);
  if (newer !== null) {
    throw new LogRefused("bucket_newer", `it has a checkpoint of ${newer}, ours is of ${size}`);
  }
  if (head !== null && copy !== null) sameRoot(copy, head.note, origin);
  if (text === null) return 0;
  const theirs = readBucketCheckpoint(text, origin);
  if (theirs.size > size) {
    throw new LogRefused("bucket_newer", `its checkpoint is of ${theirs.size}, ours of ${size}`);
  }
  sameRoot(text, theirs.size === size ? head?.note : store.checkpoint(theirs.size)?.note, origin);
  return theirs.size;
}

function sameRoot(text: string, ours: string | undefined, origin: string): void {
  const theirs = readBucketCheckpoint(text, origin);
  const known = ours === undefined ? null : checkpointOf(ours);
  if (known === null || theirs.size !== known.size || !equalBytes(theirs.root, known.root)) {
    throw new LogRefused("bucket_forked", `it holds another tree of ${theirs.size}`);
  }
}

function readBucketCheckpoint(text: string, origin: string): Checkpoint {
  const checkpoint = checkpointOf(text);
  if (checkpoint?.origin !== origin) {
    throw new LogRefused("bucket_unreadable", "log/checkpoint is no checkpoint of this log");
  }
  return checkpoint;
}

/** Waits for all, and throws the first error only then: nothing goes on behind the writer's back. */
async function allOf(work: readonly Promise<void>[]): Promise<void> {
  const settled = await Promise.allSettled(work);
  for (const result of settled) if (result.status === "rejected") throw result.reason;
}
