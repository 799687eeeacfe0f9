import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { sha256Bytes as nodeSha256 } from "../../src/audit/hash-node.ts";
import { sha256Bytes } from "../../src/audit/hash-portable.ts";
import { equalBytes, toHex } from "../../src/log/bytes.ts";
import {
  completeNodes,
  consistencyProof,
  inclusionProof,
  inclusionRanges,
  leafHash,
  nodesOfLeaves,
  rootHash,
  verifyConsistency,
  verifyInclusion,
} from "../../src/log/merkle.ts";
import { CONSISTENCY_6_TO_8, INCLUSION_5_IN_8, LEAVES, ROOTS } from "./vectors.ts";

const hash = nodeSha256;
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString("base64");

/** RFC 6962 section 2.1 to the letter. */
function treeHash(leaves: readonly Uint8Array[]): Uint8Array {
  const [only] = leaves;
  if (only === undefined) return hash("");
  if (leaves.length === 1) return leafHash(hash, only);
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return hash(Uint8Array.of(1, ...treeHash(leaves.slice(0, k)), ...treeHash(leaves.slice(k))));
}

const entries = (n: number) => Array.from({ length: n }, (_, i) => Uint8Array.of(i >> 8, i & 255));
const all = entries(600).map((entry) => leafHash(hash, entry));
const nodes = nodesOfLeaves(hash, all);
const root = (size: number) => rootHash(hash, nodes, size);

describe("vectors of RFC 6962", () => {
  const reference = LEAVES.map((leaf) => leafHash(sha256Bytes, leaf));
  const read = nodesOfLeaves(sha256Bytes, reference);

  it.each(Object.entries(ROOTS))("gives the root of %s leaves", (size, hex) => {
    expect(toHex(rootHash(sha256Bytes, read, Number(size)))).toBe(hex);
  });

  it("gives the inclusion proof of 5 in 8 and the consistency proof of 6 to 8", () => {
    expect(inclusionProof(sha256Bytes, read, 5, 8).map(base64)).toEqual(INCLUSION_5_IN_8);
    expect(consistencyProof(sha256Bytes, read, 6, 8).map(base64)).toEqual(CONSISTENCY_6_TO_8);
  });
});

describe("a tree of any size", () => {
  const size = fc.integer({ min: 1, max: 600 });
  const place = size.chain((n) => fc.tuple(fc.constant(n), fc.nat(n - 1)));
  const pair = size.chain((n) => fc.tuple(fc.constant(n), fc.nat(n)));

  it("has the root that the recursion of the RFC gives", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 70 }), (n) => {
        expect(toHex(root(n))).toBe(toHex(treeHash(entries(n))));
      }),
    );
  });

  it("proves each leaf, and nothing else with that proof", () => {
    fc.assert(
      fc.property(place, fc.nat(), fc.nat(255), ([n, index], at, flip) => {
        const leaf = all[index] ?? new Uint8Array();
        const proof = inclusionProof(hash, nodes, index, n);
        expect(verifyInclusion(hash, leaf, index, n, proof, root(n))).toBe(true);

        const other = leafHash(hash, Uint8Array.of(1, 2, 3));
        expect(verifyInclusion(hash, other, index, n, proof, root(n))).toBe(false);
        expect(verifyInclusion(hash, leaf, n, n, proof, root(n))).toBe(false);
        if (n > 1) {
          const elsewhere = (index + 1 + (at % (n - 1))) % n;
          expect(verifyInclusion(hash, leaf, elsewhere, n, proof, root(n))).toBe(false);
          const changed = proof.map((line) => line.slice());
          const line = changed[at % changed.length];
          if (line !== undefined) line[at % 32] = (line[at % 32] ?? 0) ^ (flip || 1);
          expect(verifyInclusion(hash, leaf, index, n, changed, root(n))).toBe(false);
          expect(verifyInclusion(hash, leaf, index, n, proof.slice(1), root(n))).toBe(false);
        }
        expect(verifyInclusion(hash, leaf, index, n, [...proof, root(n)], root(n))).toBe(false);
      }),
      { numRuns: 300 },
    );
  });

  it("proves that it grew out of each smaller one, and of no other", () => {
    fc.assert(
      fc.property(pair, fc.nat(), fc.nat(254), ([n, old], at, flip) => {
        const proof = consistencyProof(hash, nodes, old, n);
        expect(verifyConsistency(hash, old, n, proof, root(old), root(n))).toBe(true);

        const wrong = root(old).slice();
        wrong[at % 32] = (wrong[at % 32] ?? 0) ^ (flip + 1);
        expect(verifyConsistency(hash, old, n, proof, wrong, root(n))).toBe(false);
        if (old > 0) {
          const forged = root(n).slice();
          forged[at % 32] = (forged[at % 32] ?? 0) ^ (flip + 1);
          expect(verifyConsistency(hash, old, n, proof, root(old), forged)).toBe(false);
        }
        expect(verifyConsistency(hash, n + 1, n, proof, root(old), root(n))).toBe(false);
        expect(verifyConsistency(hash, old, n, [...proof, wrong], root(old), root(n))).toBe(false);
        for (const [i, line] of proof.entries()) {
          const changed = proof.with(i, line.with(at % 32, (line[at % 32] ?? 0) ^ (flip + 1)));
          expect(verifyConsistency(hash, old, n, changed, root(old), root(n))).toBe(false);
          expect(verifyConsistency(hash, old, n, proof.toSpliced(i, 1), root(old), root(n))).toBe(
            false,
          );
        }
      }),
      { numRuns: 300 },
    );
  });

  it("refuses hashes of another length", () => {
    expect(verifyInclusion(hash, Uint8Array.of(1), 0, 1, [], Uint8Array.of(1))).toBe(false);
    const short = root(3).slice(1);
    expect(verifyConsistency(hash, 3, 3, [], short, short)).toBe(false);
  });
});

describe("sizes beyond 32 bits", () => {
  it("splits where the RFC does, up to 2^53", () => {
    const big = 2 ** 49 - 1;
    expect(completeNodes(0, big)[0]).toEqual({ height: 48, index: 0 });
    expect(completeNodes(0, big)).toHaveLength(49);
    const ranges = inclusionRanges(2 ** 33 + 5, 2 ** 40 + 1);
    expect(ranges[0]).toEqual({ start: 2 ** 33 + 4, end: 2 ** 33 + 5 });
    expect(ranges.at(-1)).toEqual({ start: 2 ** 40, end: 2 ** 40 + 1 });
  });

  it("refuses an index that is not in the tree", () => {
    expect(() => inclusionRanges(8, 8)).toThrow(RangeError);
    expect(() => inclusionRanges(-1, 8)).toThrow(RangeError);
    expect(() => inclusionRanges(0.5, 8)).toThrow(RangeError);
  });
});

describe("two implementations of SHA-256", () => {
  it("make the same tree", () => {
    const read = nodesOfLeaves(sha256Bytes, all.slice(0, 100));
    expect(equalBytes(rootHash(sha256Bytes, read, 100), root(100))).toBe(true);
  });
});
