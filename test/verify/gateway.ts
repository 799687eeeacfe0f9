/**
 * @module
 * A small gateway for tests of the verifier: sessions, a log that grows, its
 * key, witnesses, and everything that an operator with all keys could do to them.
 */
import { sha256Bytes } from "../../src/audit/hash-node.ts";
import { encodeBase64 } from "../../src/log/bytes.ts";
import { formatCheckpoint } from "../../src/log/checkpoint.ts";
import { cosign, witnessKey } from "../../src/log/cosignature.ts";
import { type Ed25519Key, importSeed } from "../../src/log/ed25519.ts";
import { encodeEntries } from "../../src/log/entries.ts";
import { type Leaf, leafEntry, leafText, parseLeaf } from "../../src/log/leaf.ts";
import {
  inclusionProof,
  leafHash,
  nodesOfLeaves,
  type ReadNode,
  rootHash,
} from "../../src/log/merkle.ts";
import {
  formatVkey,
  noteSigner,
  parseVkey,
  signNote,
  type VerifierKey,
} from "../../src/log/note.ts";
import type { LogReader } from "../../src/log/reader.ts";
import { TILE_WIDTH, type Tile, tileWidth } from "../../src/log/tiles.ts";
import { parsePolicy, type WitnessPolicy } from "../../src/log/witness-policy.ts";
import { BUNDLE_FORMAT, type Bundle, parseBundle } from "../../src/verify/bundle.ts";
import { canonical, genesisOf, linkRecords, type Members, sha256 } from "../audit/reference.ts";

export const TENANT = "default";
export const ORIGIN = "gate.example/log";
export const START_MS = Date.UTC(2026, 10, 22, 10);
const hash = sha256Bytes;

export const seedOf = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);

/** A session of `count` records: opened, calls, closed if so asked. */
export function sessionLines(id: string, count: number, changes: Members[] = []): string[] {
  const records = Array.from({ length: count }, (_, i) => ({
    event: i === 0 ? "session_open" : "tool_call",
    tool: i === 0 ? null : "read_file",
    ...changes[i],
  }));
  return linkRecords(TENANT, id, records);
}

/** A session whose calls have stored arguments; `kept` says of which records they are still there. */
export function sessionWithArgs(
  id: string,
  count: number,
  kept: (seq: number) => boolean,
): string[] {
  const salt = "5a".repeat(16);
  const argsAt = (seq: number) => ({ path: `file-${seq}` });
  const stored = (seq: number) =>
    seq === 1 ? null : sha256(Buffer.from(salt, "hex"), canonical(argsAt(seq)));
  const changes = Array.from({ length: count }, (_, i) => ({ args_stored_hash: stored(i + 1) }));
  return sessionLines(id, count, changes).map((line, i) => {
    const beside = i > 0 && kept(i + 1) ? { args: argsAt(i + 1), salt } : {};
    return canonical({ ...JSON.parse(line), ...beside });
  });
}

export const hashAt = (lines: readonly string[], seq: number): string =>
  JSON.parse(lines[seq - 1] ?? "{}").hash_chain;

export const isoAt = (ms: number): string => new Date(ms).toISOString();

/** A leaf of a session at a record. */
export function leafOf(
  id: string,
  lines: readonly string[],
  kind: "open" | "head" | "close",
  seq: number,
  ms = START_MS,
): Leaf {
  return {
    hash_chain: hashAt(lines, seq),
    kind,
    seq,
    session: genesisOf(TENANT, id),
    timestamp: isoAt(ms),
    v: 1,
  };
}

/** A session's retirement as the log says it, of the record at `seq`. */
export function retirementOf(
  id: string,
  lines: readonly string[],
  reason: "retention" | "erasure",
  seq: number,
  ms = START_MS,
): Leaf {
  const { session, timestamp } = { session: genesisOf(TENANT, id), timestamp: isoAt(ms) };
  const remains = reason === "retention" ? "nothing" : "chain";
  const hash_chain = hashAt(lines, seq);
  return { hash_chain, kind: "retire", reason, remains, seq, session, timestamp, v: 1 };
}

/** A log with its key. A copy of it is what an operator forks or rolls back to. */
export class TestLog {
  readonly origin: string;
  readonly key: Ed25519Key;
  readonly entries: Uint8Array[];
  /** Published checkpoints by size, cosigned or not. */
  readonly checkpoints = new Map<number, string>();

  private constructor(origin: string, key: Ed25519Key, entries: Uint8Array[]) {
    this.origin = origin;
    this.key = key;
    this.entries = entries;
  }

  static async create(seed = 1, origin = ORIGIN): Promise<TestLog> {
    return new TestLog(origin, await importSeed(seedOf(seed)), []);
  }

  /** The log as it was at a size: what a restored backup is. */
  rolledBack(size: number): TestLog {
    const copy = new TestLog(this.origin, this.key, this.entries.slice(0, size));
    for (const [at, note] of this.checkpoints) if (at <= size) copy.checkpoints.set(at, note);
    return copy;
  }

  /** The same log as it goes on under another key. */
  async rotated(seed: number): Promise<TestLog> {
    const copy = new TestLog(this.origin, await importSeed(seedOf(seed)), [...this.entries]);
    for (const [at, note] of this.checkpoints) copy.checkpoints.set(at, note);
    return copy;
  }

  get size(): number {
    return this.entries.length;
  }

  get vkey(): VerifierKey {
    return noteSigner(this.origin, this.key).key;
  }

  get #nodes(): ReadNode {
    return nodesOfLeaves(
      hash,
      this.entries.map((entry) => leafHash(hash, entry)),
    );
  }

  /** Appends leaves and publishes a checkpoint, cosigned by `witnesses` at `ms`. */
  async commit(leaves: readonly Leaf[], witnesses: Witness[] = [], ms = START_MS): Promise<string> {
    this.entries.push(...leaves.map(leafEntry));
    return this.publish(witnesses, ms);
  }

  async publish(witnesses: Witness[] = [], ms = START_MS): Promise<string> {
    const root = rootHash(hash, this.#nodes, this.size);
    const text = formatCheckpoint({ origin: this.origin, size: this.size, root });
    let note = await signNote(text, [noteSigner(this.origin, this.key)]);
    for (const { name, key } of witnesses) {
      note += await cosign(name, key, Math.floor(ms / 1000), text);
    }
    this.checkpoints.set(this.size, note);
    return note;
  }

  get checkpoint(): string {
    return this.checkpoints.get(this.size) ?? "";
  }

  /** The log as it is read by a stranger. Partial tiles are served only in the width of the tree. */
  reader(): LogReader {
    return {
      checkpoint: async () => this.checkpoint,
      tile: async (tile) => this.tile(tile),
    };
  }

  tile({ level, index, width }: Tile): Uint8Array | null {
    if (tileWidth(level, index, this.size) !== width) return null;
    const first = index * TILE_WIDTH;
    if (level === "entries") return encodeEntries(this.entries.slice(first, first + width));
    const nodes = this.#nodes;
    return new Uint8Array(
      Buffer.concat(Array.from({ length: width }, (_, i) => nodes(level * 8, first + i))),
    );
  }

  /** The `log` member of a session's bundle, as the gateway writes it. */
  bundleLog(id: string, all = false) {
    const session = genesisOf(TENANT, id);
    const own = this.entries
      .map((entry, index) => ({ leaf: parseLeaf(entry), index }))
      .filter(({ leaf }) => leaf !== null && leaf.kind !== "key" && leaf.session === session);
    const chosen = all ? own : own.filter((_, i) => i === 0 || i === own.length - 1);
    const sizes = [...this.checkpoints.keys()].sort((a, b) => a - b);
    const checkpoints: Record<string, string> = {};
    const leaves = chosen.flatMap(({ leaf, index }) => {
      if (leaf === null) return [];
      const before = sizes.filter((size) => size <= index).at(-1) ?? null;
      const after = sizes.find((size) => size > index) ?? null;
      for (const size of [before, after]) {
        if (size !== null) checkpoints[size] = this.checkpoints.get(size) ?? "";
      }
      const proof = inclusionProof(hash, this.#nodes, index, this.size).map(encodeBase64);
      return [{ index, entry: leafText(leaf), proof, before, after }];
    });
    const vkey = formatVkey(this.vkey);
    return { origin: this.origin, vkey, checkpoint: this.checkpoint, leaves, checkpoints };
  }

  bundleText(id: string, lines: readonly string[], all = false): string {
    return bundleText(id, lines, this.bundleLog(id, all));
  }

  bundle(id: string, lines: readonly string[], all = false): Bundle {
    return read(this.bundleText(id, lines, all));
  }
}

export function bundleText(id: string, lines: readonly string[], log: unknown): string {
  const records: unknown[] = lines.map((line) => JSON.parse(line));
  return JSON.stringify({ format: BUNDLE_FORMAT, tenant: TENANT, session_id: id, records, log });
}

export function read(text: string): Bundle {
  const parsed = parseBundle(text);
  if (!parsed.ok) throw new Error(parsed.message);
  return parsed.bundle;
}

export type Witness = { readonly name: string; readonly key: Ed25519Key; readonly vkey: string };

export async function witness(byte: number, name = `w${byte}.example/witness`): Promise<Witness> {
  const key = await importSeed(seedOf(byte));
  return { name, key, vkey: formatVkey(witnessKey(name, key.publicKey)) };
}

/** A policy that wants `quorum` of these witnesses. */
export function policyText(witnesses: readonly Witness[], quorum: number | "none"): string {
  const names = witnesses.map((_, i) => `w${i}`);
  return [
    ...witnesses.map(({ vkey }, i) => `witness w${i} ${vkey}`),
    ...(quorum === "none" ? [] : [`group all-of-them ${quorum} ${names.join(" ")}`]),
    `quorum ${quorum === "none" ? "none" : "all-of-them"}`,
  ].join("\n");
}

export function policyOf(witnesses: readonly Witness[], quorum: number | "none"): WitnessPolicy {
  const parsed = parsePolicy(policyText(witnesses, quorum));
  if (!parsed.ok) throw new Error(parsed.message);
  return parsed.policy;
}

export function vkeyOf(text: string): VerifierKey {
  const key = parseVkey(text);
  if (key === null) throw new Error("no vkey");
  return key;
}
