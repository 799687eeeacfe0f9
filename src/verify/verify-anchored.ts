/**
 * @module
 * Anchored: what the log holds of the session, included under a signed
 * checkpoint, is what the records say. It shows every change to records up
 * to the newest leaf that is shown, and a tail cut below it.
 */
import type { Finding, Verdict } from "../audit/report.ts";
import type { Checkpoint } from "../log/checkpoint.ts";
import { parseLeaf } from "../log/leaf.ts";
import { leafHash, verifyInclusion } from "../log/merkle.ts";
import type { BundleLeaf } from "./bundle.ts";
import {
  at0,
  type Evidence,
  type Judged,
  NOT_ANCHORED,
  refusedCheckpoint,
  type SessionLeaf,
  unsaid,
  VKEY_NEEDED,
  withoutLeaves,
} from "./evidence.ts";
import { unlessRetired } from "./retirement.ts";

export type Anchored = Judged & {
  /** The last record that a leaf covers which holds. */
  readonly covered: number;
};

/** What the log's leaves say; what receipts say comes to it in {@link withReceipts}. */
export function verifyAnchored({ log, opened, records, hash }: Evidence): Anchored {
  if (log === null) return { ...withoutLeaves(unsaid(NOT_ANCHORED)), covered: 0 };
  if (opened === null) return { ...withoutLeaves(unsaid(VKEY_NEEDED)), covered: 0 };
  if (!opened.ok) {
    const findings = [refusedCheckpoint("The checkpoint", opened)];
    return { ...withoutLeaves({ ok: false, findings }), covered: 0 };
  }
  const { checkpoint } = opened;
  const findings: Finding[] = [];
  if (log.origin !== checkpoint.origin) {
    findings.push(at0("CHECKPOINT_OTHER_ORIGIN", "The checkpoint is of another log than declared"));
  }
  const included: { index: number; leaf: SessionLeaf }[] = [];
  for (const given of log.leaves) {
    const leaf = readLeaf(given, checkpoint, records.session);
    if ("code" in leaf) findings.push(leaf);
    else included.push({ index: given.index, leaf });
  }
  findings.push(...orderOf(included));
  if (!included.some(({ leaf }) => leaf.kind === "open")) {
    findings.push(at0("OPEN_MISSING", "No leaf shows the session's first record"));
  }
  let covered = 0;
  for (const { leaf } of included) {
    const finding = compareWithRecords(leaf);
    if (finding === null) covered = Math.max(covered, leaf.seq);
    else findings.push(finding);
  }
  const leaves = included.map(({ leaf }) => leaf);
  const verdict = { ok: findings.length === 0, findings };
  return { verdict: unlessRetired(verdict, "TAIL_CUT", records.last, leaves), leaves, covered };

  function readLeaf(
    { entry, index, proof }: BundleLeaf,
    { size, root }: Checkpoint,
    session: string,
  ): SessionLeaf | Finding {
    const leaf = parseLeaf(entry);
    if (leaf === null) return at0("LEAF_MALFORMED", `Leaf ${index} is no canonical leaf`);
    if (leaf.kind === "key" || leaf.session !== session) {
      return at0("LEAF_OF_ANOTHER_SESSION", `Leaf ${index} is not of this session`);
    }
    const hashed = leafHash(hash, new TextEncoder().encode(entry));
    return verifyInclusion(hash, hashed, index, size, proof, root)
      ? leaf
      : { ...at0("LEAF_NOT_INCLUDED", `Leaf ${index} is not under the checkpoint`), seq: leaf.seq };
  }

  function compareWithRecords({ seq, kind, hash_chain }: SessionLeaf): Finding | null {
    if (seq > records.last) {
      const message = `The log holds record ${seq}, the records end at ${records.last}`;
      return { seq, code: "TAIL_CUT", message };
    }
    if (records.hashAt(seq) !== hash_chain) {
      return { seq, code: "ANCHOR_MISMATCH", message: `Record ${seq} is not the one in the log` };
    }
    if (kind === "close" && seq !== records.last) {
      return { seq, code: "AFTER_CLOSE", message: "The log closed the session at this record" };
    }
    return null;
  }
}

/** The verdict with receipts: they come from outside, and can refute also where there is no log. */
export function withReceipts(leaves: Verdict, receipts: Verdict): Verdict {
  if (receipts.ok === true) return leaves;
  return {
    ok: leaves.ok === false ? false : receipts.ok,
    findings: [...leaves.findings, ...receipts.findings],
  };
}

/** What contradicts itself within the leaves: each list is in the log's order. */
function orderOf(leaves: readonly { index: number; leaf: SessionLeaf }[]): Finding[] {
  const findings: Finding[] = [];
  for (const [i, { index, leaf }] of leaves.entries()) {
    const before = leaves[i - 1];
    if (before === undefined) continue;
    const backwards = leaf.kind !== "retire" && leaf.seq < before.leaf.seq;
    if (index <= before.index || backwards || leaf.kind === "open") {
      const message = `Leaf ${index} cannot follow leaf ${before.index}`;
      findings.push({ seq: leaf.seq, code: "LEAF_ORDER", message });
    }
  }
  return findings;
}
