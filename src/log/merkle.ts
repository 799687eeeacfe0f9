/**
 * @module
 * Merkle trees as in RFC 6962 section 2.1: hashes, roots, inclusion and
 * consistency proofs, made and checked. The checks follow RFC 9162 sections
 * 2.1.3.2 and 2.1.4.2.
 *
 * Sizes and indexes are whole numbers below 2^53, so arithmetic here uses
 * division and not the 32-bit operators.
 */
import type { Sha256 } from "../audit/hash.ts";
import { concatBytes, equalBytes } from "./bytes.ts";

export const HASH_BYTES = 32;

const LEAF_PREFIX = Uint8Array.of(0);
const NODE_PREFIX = Uint8Array.of(1);

/** SHA-256(0x00 || entry). */
export function leafHash(hash: Sha256, entry: Uint8Array): Uint8Array {
  return hash(concatBytes(LEAF_PREFIX, entry));
}

/** SHA-256(0x01 || left || right). */
export function nodeHash(hash: Sha256, left: Uint8Array, right: Uint8Array): Uint8Array {
  return hash(concatBytes(NODE_PREFIX, left, right));
}

/** The root of the tree without leaves: SHA-256 of nothing. */
export function emptyRoot(hash: Sha256): Uint8Array {
  return hash("");
}

/** The hash of the complete subtree over the leaves [index · 2^height, (index + 1) · 2^height). */
export type ReadNode = (height: number, index: number) => Uint8Array;

/** A complete subtree: `height` 0 is a leaf. */
export type Node = { readonly height: number; readonly index: number };

/**
 * The complete subtrees that the Merkle tree hash of the leaves [start, end) is
 * made of, left to right, largest first. `start` must be a multiple of the
 * largest power of two that is at most `end - start`, as in every proof.
 */
export function completeNodes(start: number, end: number): Node[] {
  const nodes: Node[] = [];
  let at = start;
  while (at < end) {
    const height = floorLog2(end - at);
    const width = 2 ** height;
    nodes.push({ height, index: at / width });
    at += width;
  }
  return nodes;
}

/** The Merkle tree hash of the leaves [start, end); see {@link completeNodes}. */
export function rangeHash(hash: Sha256, read: ReadNode, start: number, end: number): Uint8Array {
  const nodes = completeNodes(start, end).map(({ height, index }) => read(height, index));
  return nodes.length === 0
    ? emptyRoot(hash)
    : nodes.reduceRight((right, left) => nodeHash(hash, left, right));
}

/** The root of a tree of `size` leaves. */
export function rootHash(hash: Sha256, read: ReadNode, size: number): Uint8Array {
  return rangeHash(hash, read, 0, size);
}

/** Reads nodes of a tree whose leaf hashes are all at hand; each is computed once. */
export function nodesOfLeaves(hash: Sha256, leaves: readonly Uint8Array[]): ReadNode {
  const rows: Uint8Array[][] = [[...leaves]];
  for (let below = leaves.slice(); below.length > 1; ) {
    const row: Uint8Array[] = [];
    for (let i = 0; i + 1 < below.length; i += 2) {
      const [left, right] = [below[i], below[i + 1]];
      if (left !== undefined && right !== undefined) row.push(nodeHash(hash, left, right));
    }
    rows.push(row);
    below = row;
  }
  return (height, index) => {
    const node = rows[height]?.[index];
    if (node === undefined) throw new RangeError(`no node at height ${height}, index ${index}`);
    return node;
  };
}

/** Leaves [start, end) whose Merkle tree hash is one line of a proof. */
export type Range = { readonly start: number; readonly end: number };

/**
 * What an inclusion proof consists of, from the leaf's sibling to the root's child (RFC 6962, 2.1.1).
 *
 * @throws RangeError for an index that is not in the tree.
 */
export function inclusionRanges(index: number, size: number): Range[] {
  if (!isSize(index) || !isSize(size) || index >= size) {
    throw new RangeError(`no leaf ${index} in a tree of ${size}`);
  }
  const ranges: Range[] = [];
  let [start, end] = [0, size];
  while (end - start > 1) {
    const split = start + splitPoint(end - start);
    if (index < split) {
      ranges.push({ start: split, end });
      end = split;
    } else {
      ranges.push({ start, end: split });
      start = split;
    }
  }
  return ranges.reverse();
}

/**
 * What a consistency proof consists of (RFC 6962, 2.1.2). Empty from size 0, which
 * everything is consistent with, and between equal sizes.
 *
 * @throws RangeError when `oldSize` is larger than `size`.
 */
export function consistencyRanges(oldSize: number, size: number): Range[] {
  if (!isSize(oldSize) || !isSize(size) || oldSize > size) {
    throw new RangeError(`no consistency from ${oldSize} to ${size}`);
  }
  if (oldSize === 0 || oldSize === size) return [];
  const ranges: Range[] = [];
  let [start, end] = [0, size];
  // Whether [start, end) is a whole left part of the old tree, which its checker knows the hash of.
  let isOldRoot = true;
  while (oldSize !== end) {
    const split = start + splitPoint(end - start);
    if (oldSize <= split) {
      ranges.push({ start: split, end });
      end = split;
    } else {
      ranges.push({ start, end: split });
      start = split;
      isOldRoot = false;
    }
  }
  if (!isOldRoot) ranges.push({ start, end });
  return ranges.reverse();
}

export function inclusionProof(
  hash: Sha256,
  read: ReadNode,
  index: number,
  size: number,
): Uint8Array[] {
  return inclusionRanges(index, size).map(({ start, end }) => rangeHash(hash, read, start, end));
}

export function consistencyProof(
  hash: Sha256,
  read: ReadNode,
  oldSize: number,
  size: number,
): Uint8Array[] {
  return consistencyRanges(oldSize, size).map(({ start, end }) =>
    rangeHash(hash, read, start, end),
  );
}

/** Whether `proof` shows that the leaf hash is number `index` of the tree with this size and root. */
export function verifyInclusion(
  hash: Sha256,
  leaf: Uint8Array,
  index: number,
  size: number,
  proof: readonly Uint8Array[],
  root: Uint8Array,
): boolean {
  if (!isSize(index) || !isSize(size) || index >= size || !areHashes([leaf, root, ...proof])) {
    return false;
  }
  let [fn, sn, node] = [index, size - 1, leaf];
  for (const sibling of proof) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      node = nodeHash(hash, sibling, node);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else {
      node = nodeHash(hash, node, sibling);
    }
    [fn, sn] = [half(fn), half(sn)];
  }
  return sn === 0 && equalBytes(node, root);
}

/**
 * Whether `proof` shows that the tree with the old size and root is a prefix of the
 * new one. The empty tree is a prefix of every tree: the proof must be
 * empty then, and the old root that of the empty tree.
 */
export function verifyConsistency(
  hash: Sha256,
  oldSize: number,
  size: number,
  proof: readonly Uint8Array[],
  oldRoot: Uint8Array,
  root: Uint8Array,
): boolean {
  if (!isSize(oldSize) || !isSize(size) || oldSize > size) return false;
  if (!areHashes([oldRoot, root, ...proof])) return false;
  if (oldSize === size) return proof.length === 0 && equalBytes(oldRoot, root);
  if (oldSize === 0) return proof.length === 0 && equalBytes(oldRoot, emptyRoot(hash));
  // The proof of a complete old tree leaves out its root: the checker has it.
  const path = 2 ** floorLog2(oldSize) === oldSize ? [oldRoot, ...proof] : proof;
  let [fn, sn] = [oldSize - 1, size - 1];
  while (fn % 2 === 1) [fn, sn] = [half(fn), half(sn)];
  const first = path[0];
  if (first === undefined || proof.length === 0) return false;
  let [oldNode, node] = [first, first];
  for (const sibling of path.slice(1)) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      oldNode = nodeHash(hash, sibling, oldNode);
      node = nodeHash(hash, sibling, node);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else {
      node = nodeHash(hash, node, sibling);
    }
    [fn, sn] = [half(fn), half(sn)];
  }
  return sn === 0 && equalBytes(oldNode, oldRoot) && equalBytes(node, root);
}

/** The largest power of two below `n` (n > 1): where RFC 6962 splits a tree. */
function splitPoint(n: number): number {
  return 2 ** floorLog2(n - 1);
}

/** `Math.log2` rounds, and says 49 of 2^49 − 1. */
function floorLog2(n: number): number {
  const guess = Math.floor(Math.log2(n));
  return 2 ** guess > n ? guess - 1 : guess;
}

function half(n: number): number {
  return Math.floor(n / 2);
}

function isSize(n: number): boolean {
  return Number.isSafeInteger(n) && n >= 0;
}

function areHashes(hashes: readonly Uint8Array[]): boolean {
  return hashes.every(({ length }) => length === HASH_BYTES);
}
