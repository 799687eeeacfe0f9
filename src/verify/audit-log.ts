/**
 * @module
 * The audit of a whole log: every entry against its tile, every tile against the
 * signed root, every session's leaves in order, the times of all of them
 * forward, older checkpoints against the same walk. It remembers the right edge of the tree
 * and the newest leaf of each session, and can go on where it, or an earlier audit, had come to.
 */
import type { Sha256 } from "../audit/hash.ts";
import { equalBytes } from "../log/bytes.ts";
import { type Checkpoint, checkpointOf, openCheckpoint } from "../log/checkpoint.ts";
import { type Leaf, parseLeaf } from "../log/leaf.ts";
import { HASH_BYTES, leafHash, rootHash } from "../log/merkle.ts";
import type { VerifierKey } from "../log/note.ts";
import { type LogReader, readEntries, readHashes, readNodes } from "../log/reader.ts";
import { TILE_WIDTH, tilePath, tileWidth } from "../log/tiles.ts";
import { appendLeaves, EMPTY_EDGE, edgeRoot, edgeTiles, type TreeEdge } from "../log/tree-edge.ts";

/** Findings kept; a log that is wrong throughout must not fill the memory. */
export const MAX_AUDIT_FINDINGS = 1000;

export type AuditFinding = {
  readonly index: number;
  readonly code: string;
  readonly message: string;
};

/** Where a session's chain stands in the log. */
export type SessionState = {
  readonly kind: string;
  readonly seq: number;
  readonly hash_chain: string;
};

/** How far an audit has come; all of it was checked. */
export type AuditState = {
  edge: TreeEdge;
  /** By genesis. */
  readonly sessions: Map<string, SessionState>;
  readonly kinds: Map<string, number>;
  /** The checkpoint of the last audit that came to its end. */
  checkpoint: string | null;
  /** The timestamp of the last leaf; null before the first. */
  time: string | null;
};

export type AuditOptions = {
  readonly hash: Sha256;
  readonly reader: LogReader;
  /** The log's keys; without them no signature is checked. */
  readonly keys: readonly VerifierKey[] | null;
  /** Signed checkpoints of earlier, which must be prefixes. */
  readonly since: readonly string[];
  readonly state: AuditState;
  /** Called after each bundle of entries, and awaited; `clean` while nothing was found. */
  readonly progress: (done: number, size: number, clean: boolean) => Promise<void>;
};

export type AuditReport = {
  readonly ok: boolean;
  readonly origin: string | null;
  readonly size: number;
  /** Whether the checkpoint is signed by a given key; null when none was given. */
  readonly signed: boolean | null;
  readonly sessions: number;
  /** How many leaves there are of each kind. */
  readonly kinds: Readonly<Record<string, number>>;
  readonly findings: readonly AuditFinding[];
};

export function newAudit(): AuditState {
  return { edge: EMPTY_EDGE, sessions: new Map(), kinds: new Map(), checkpoint: null, time: null };
}

/** Walks a log. @throws LogUnreadable (`../log/reader.ts`) when a part of it is not there. */
export async function auditLog(options: AuditOptions): Promise<AuditReport> {
  const { reader, keys, state } = options;
  const audit = new Audit(options);
  const note = await reader.checkpoint();
  const head = await audit.open(note, "the log's checkpoint");
  if (head === null) return audit.report(null, false);
  const old = await audit.openOlder(head);
  if (state.edge.size > head.size) {
    audit.find(head.size, "LOG_ROLLED_BACK", `${state.edge.size} entries were audited before`);
    return audit.report(head, keys === null ? null : true);
  }
  await audit.walk(head, old);
  if (audit.found === 0) state.checkpoint = note;
  return audit.report(head, keys === null ? null : true);
}

class Audit {
  readonly #options: AuditOptions;
  readonly #findings: AuditFinding[] = [];
  found = 0;

  constructor(options: AuditOptions) {
    this.#options = options;
  }

  find(index: number, code: string, message: string): void {
    this.found += 1;
    if (this.#findings.length < MAX_AUDIT_FINDINGS) this.#findings.push({ index, code, message });
  }

  async open(note: string, what: string): Promise<Checkpoint | null> {
    const { keys } = this.#options;
    if (keys === null) {
      const unsigned = checkpointOf(note);
      if (unsigned === null) this.find(0, "CHECKPOINT_MALFORMED", `${what} is none`);
      return unsigned;
    }
    const opened = await openCheckpoint(note, keys);
    if (opened.ok) return opened.checkpoint;
    this.find(0, "CHECKPOINT_NOT_SIGNED", `${what}: ${opened.reason}`);
    return null;
  }

  /** Older checkpoints by size: those given, and that of the audit before. */
  async openOlder(head: Checkpoint): Promise<Map<number, Checkpoint>> {
    const { since, state } = this.#options;
    const older = new Map<number, Checkpoint>();
    const notes = state.checkpoint === null ? since : [...since, state.checkpoint];
    for (const note of notes) {
      const checkpoint = await this.open(note, "an older checkpoint");
      if (checkpoint === null) continue;
      const { origin, size, root } = checkpoint;
      const same = older.get(size);
      if (origin !== head.origin) {
        this.find(0, "OTHER_ORIGIN", `an older checkpoint is of ${origin}`);
      } else if (size > head.size) {
        this.find(
          head.size,
          "LOG_ROLLED_BACK",
          `a checkpoint of ${size} entries was signed before`,
        );
      } else if (same !== undefined && !equalBytes(same.root, root)) {
        this.find(size, "FORK", `two checkpoints of ${size} entries differ`);
      }
      older.set(size, checkpoint);
    }
    return older;
  }

  async walk(head: Checkpoint, older: ReadonlyMap<number, Checkpoint>): Promise<void> {
    const { hash, reader, state, progress } = this.#options;
    for (const [size, { root }] of older) {
      if (size < state.edge.size) await this.#checkPassed(size, root, head);
    }
    const start = state.edge.size;
    const from = start - (start % TILE_WIDTH);
    this.#checkRoot(head, older);
    for await (const { first, entries } of readEntries(reader, head.size, from)) {
      const hashes = entries.map((entry) => leafHash(hash, entry));
      await this.#checkLeafTile(first, hashes, head.size);
      const fresh = Math.max(0, start - first);
      // In steps that end where a root is wanted.
      const stops = [...older.keys(), first + entries.length].sort((a, b) => a - b);
      for (const stop of stops) {
        const done = state.edge.size - first;
        if (stop <= state.edge.size || stop - first > entries.length) continue;
        await this.#append(hashes.slice(done, stop - first));
        this.#checkRoot(head, older);
      }
      for (let i = fresh; i < entries.length; i++) {
        this.#checkEntry(first + i, entries[i] ?? new Uint8Array(0));
      }
      await progress(state.edge.size, head.size, this.found === 0);
    }
    for (const { tile, bytes } of edgeTiles(state.edge)) {
      if (tile.level !== 0) await this.#checkTile(tile.level, tile.index, bytes);
    }
  }

  async #append(leaves: readonly Uint8Array[]): Promise<void> {
    const { hash, state } = this.#options;
    const { edge, full } = appendLeaves(hash, state.edge, leaves);
    state.edge = edge;
    for (const { tile, bytes } of full) {
      if (tile.level !== 0) await this.#checkTile(tile.level, tile.index, bytes);
    }
  }

  /** An older checkpoint below what an earlier audit has walked: its root comes from tiles, which that audit has checked. */
  async #checkPassed(size: number, root: Uint8Array, head: Checkpoint): Promise<void> {
    const { hash, reader } = this.#options;
    const nodes = await readNodes(hash, reader, size, head.size);
    if (!equalBytes(rootHash(hash, nodes, size), root)) {
      this.find(size, "FORK", `the first ${size} entries are not those of an older checkpoint`);
    }
  }

  #checkRoot(head: Checkpoint, older: ReadonlyMap<number, Checkpoint>): void {
    const { hash, state } = this.#options;
    const { size } = state.edge;
    const old = older.get(size);
    if (size !== head.size && old === undefined) return;
    const root = edgeRoot(hash, state.edge);
    if (size === head.size && !equalBytes(root, head.root)) {
      this.find(
        size,
        "ROOT_MISMATCH",
        "the entries, with those audited before, do not have the root that was signed",
      );
    }
    if (old !== undefined && !equalBytes(root, old.root)) {
      this.find(size, "FORK", `the first ${size} entries are not those of an older checkpoint`);
    }
  }

  async #checkLeafTile(first: number, hashes: readonly Uint8Array[], size: number): Promise<void> {
    const index = first / TILE_WIDTH;
    const tile = { level: 0, index, width: tileWidth(0, index, size) };
    const bytes = await readHashes(this.#options.reader, tile);
    for (const [i, hash] of hashes.entries()) {
      if (equalBytes(bytes.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES), hash)) continue;
      this.find(first + i, "ENTRY_MISMATCH", `${tilePath(tile)} has another hash of the entry`);
    }
  }

  async #checkTile(level: number | "entries", index: number, expected: Uint8Array): Promise<void> {
    const tile = { level, index, width: expected.length / HASH_BYTES };
    const bytes = await readHashes(this.#options.reader, tile);
    if (!equalBytes(bytes, expected)) {
      this.find(this.#options.state.edge.size, "TILE_MISMATCH", `${tilePath(tile)} is another`);
    }
  }

  #checkEntry(index: number, entry: Uint8Array): void {
    const { state } = this.#options;
    const { sessions, kinds } = state;
    const leaf = parseLeaf(entry);
    const kind = leaf?.kind ?? "unknown";
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    if (leaf === null) {
      this.find(index, "LEAF_MALFORMED", "the entry is no leaf");
      return;
    }
    // Without it a leaf could be dated back to between two checkpoints that were cosigned long before it.
    if (state.time !== null && leaf.timestamp < state.time) {
      const message = `the leaf says ${leaf.timestamp}, the one before it ${state.time}`;
      this.find(index, "TIME_BACKWARDS", message);
    }
    state.time = leaf.timestamp;
    if (leaf.kind === "key") return;
    const problem = disorder(leaf, sessions.get(leaf.session));
    if (problem !== null) this.find(index, "LEAF_ORDER", `session ${leaf.session}: ${problem}`);
    if (leaf.kind === "retire") return;
    const { seq, hash_chain } = leaf;
    sessions.set(leaf.session, { kind: leaf.kind, seq, hash_chain });
  }

  report(head: Checkpoint | null, signed: boolean | null): AuditReport {
    const { sessions, kinds } = this.#options.state;
    const left = this.found - this.#findings.length;
    const more = { index: 0, code: "MORE_FINDINGS", message: `${left} more are not listed` };
    return {
      ok: this.found === 0,
      origin: head?.origin ?? null,
      size: head?.size ?? 0,
      signed,
      sessions: sessions.size,
      kinds: Object.fromEntries(kinds),
      findings: left === 0 ? this.#findings : [...this.#findings, more],
    };
  }
}

/** What is wrong with a leaf after the newest of its session, or null: a chain opens, goes forward, and ends. */
function disorder(
  leaf: Exclude<Leaf, { kind: "key" }>,
  newest: SessionState | undefined,
): string | null {
  if (newest === undefined) {
    if (leaf.kind !== "open") return `begins with ${leaf.kind}`;
    return leaf.seq === 1 ? null : `opens at record ${leaf.seq}`;
  }
  if (leaf.kind === "open") return "opens for the second time";
  if (leaf.kind === "retire") {
    const isHead = leaf.seq === newest.seq && leaf.hash_chain === newest.hash_chain;
    return isHead ? null : `retires record ${leaf.seq}, which is not its newest in the log`;
  }
  if (newest.kind === "close") return `goes on after its end, with ${leaf.kind}`;
  if (leaf.seq < newest.seq) return `goes back from record ${newest.seq} to ${leaf.seq}`;
  if (leaf.seq === newest.seq && leaf.hash_chain !== newest.hash_chain) {
    return `has two records ${leaf.seq}`;
  }
  return null;
}
