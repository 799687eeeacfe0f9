/**
 * @module
 * Which of the leaves that sessions offer become entries. A leaf that the log
 * has is dropped; one that contradicts what it has of the session never gets
 * in, for an entry stays for ever.
 */
import type { HeadLeaf, RetireLeaf } from "./leaf.ts";

/** A leaf as it is offered: the log says when it was taken in. */
export type OfferedLeaf = Omit<HeadLeaf, "timestamp" | "v"> | Omit<RetireLeaf, "timestamp" | "v">;

/** `logged`: it is in the log, now or since earlier. `conflict`: the log holds another history of the session. */
export type Outcome = "logged" | "conflict";

/** What identifies a leaf: a repeat has the same key. */
export type LeafKey = { readonly session: string; readonly kind: string; readonly seq: number };

export type KnownLeaf = {
  readonly kind: string;
  readonly seq: number;
  readonly hash_chain: string;
};

/** What the log has of sessions. */
export type KnownLeaves = {
  find(key: LeafKey): KnownLeaf | null;
  /** The newest leaf of the session's chain: retirements do not count. */
  newest(session: string): KnownLeaf | null;
};

/** A session may be retired twice at one seq: for its age, and at a person's wish. */
export function leafKey(leaf: OfferedLeaf): LeafKey {
  const kind = leaf.kind === "retire" ? `retire:${leaf.reason}` : leaf.kind;
  return { session: leaf.session, kind, seq: leaf.seq };
}

/** Sorts out a batch, in its order: what each offer comes to, and the leaves to append. */
export function sequence(
  offered: readonly OfferedLeaf[],
  known: KnownLeaves,
): { outcomes: Outcome[]; fresh: OfferedLeaf[] } {
  const batch = new Batch(known);
  const fresh: OfferedLeaf[] = [];
  const outcomes = offered.map((leaf): Outcome => {
    const same = batch.find(leafKey(leaf));
    if (same !== null) return same.hash_chain === leaf.hash_chain ? "logged" : "conflict";
    if (contradicts(leaf, batch.newest(leaf.session))) return "conflict";
    batch.add(leaf);
    fresh.push(leaf);
    return "logged";
  });
  return { outcomes, fresh };
}

/**
 * A chain begins with `open`, goes forward, and ends with `close`. A retirement is of
 * the head that the log has: of another it would cover up for records that were cut off.
 */
function contradicts(leaf: OfferedLeaf, newest: KnownLeaf | null): boolean {
  if (newest === null) return leaf.kind !== "open";
  if (leaf.kind === "retire") {
    return leaf.seq !== newest.seq || leaf.hash_chain !== newest.hash_chain;
  }
  if (leaf.kind === "open" || newest.kind === "close" || leaf.seq < newest.seq) return true;
  return leaf.seq === newest.seq && leaf.hash_chain !== newest.hash_chain;
}

/** What the log will have once the leaves taken so far are in. */
class Batch implements KnownLeaves {
  readonly #known: KnownLeaves;
  readonly #keys = new Map<string, KnownLeaf>();
  readonly #newest = new Map<string, KnownLeaf>();

  constructor(known: KnownLeaves) {
    this.#known = known;
  }

  find(key: LeafKey): KnownLeaf | null {
    return this.#keys.get(textOf(key)) ?? this.#known.find(key);
  }

  newest(session: string): KnownLeaf | null {
    return this.#newest.get(session) ?? this.#known.newest(session);
  }

  add(leaf: OfferedLeaf): void {
    const { kind, seq, hash_chain, session } = leaf;
    this.#keys.set(textOf(leafKey(leaf)), { kind, seq, hash_chain });
    if (kind !== "retire") this.#newest.set(session, { kind, seq, hash_chain });
  }
}

function textOf({ session, kind, seq }: LeafKey): string {
  return `${session} ${kind} ${seq}`;
}
