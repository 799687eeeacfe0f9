/**
 * @module
 * Complete: the log, walked from its first entry, holds nothing of the session
 * that the records do not have, and its leaves in the order of their times. A proof
 * of inclusion shows what is there; only the walk shows what was left out, even
 * where everything is gone.
 */
import type { Finding } from "../audit/report.ts";
import { equalBytes } from "../log/bytes.ts";
import { type Checkpoint, openCheckpoint } from "../log/checkpoint.ts";
import { type Leaf, parseLeaf } from "../log/leaf.ts";
import { leafHash } from "../log/merkle.ts";
import { type LogReader, LogUnreadable, readEntries } from "../log/reader.ts";
import { appendLeaves, EMPTY_EDGE, edgeRoot } from "../log/tree-edge.ts";
import {
  at0,
  type Evidence,
  type Judged,
  refusedCheckpoint,
  type SessionLeaf,
  unsaid,
  VKEY_NEEDED,
  withoutLeaves,
} from "./evidence.ts";
import { unlessRetired } from "./retirement.ts";

const LOG_DIFFERS = "LOG_DIFFERS";

const LOG_NEEDED = {
  code: "LOG_NEEDED",
  message: "Only the log's entries can show that nothing is missing",
};

/** The walk goes to the log's own newest checkpoint, which must contain the bundle's. */
export async function verifyCompleteness(evidence: Evidence): Promise<Judged> {
  const { log: reader } = evidence.trust;
  if (reader === undefined) return withoutLeaves(unsaid(LOG_NEEDED));
  if (evidence.keys.length === 0) return withoutLeaves(unsaid(VKEY_NEEDED));
  try {
    const opened = await openCheckpoint(await reader.checkpoint(), evidence.keys);
    if (!opened.ok) {
      const findings = [refusedCheckpoint("The log's checkpoint", opened)];
      return withoutLeaves({ ok: false, findings });
    }
    return await walk(evidence, reader, opened.checkpoint);
  } catch (error) {
    if (!(error instanceof LogUnreadable)) throw error;
    return withoutLeaves(unsaid({ code: "LOG_UNREADABLE", message: error.message }));
  }
}

async function walk(evidence: Evidence, reader: LogReader, end: Checkpoint): Promise<Judged> {
  const { hash, opened, records } = evidence;
  const anchor = opened?.ok === true ? opened.checkpoint : null;
  if (anchor !== null && anchor.size > end.size) {
    const message = `The log shows ${end.size} entries, the bundle's checkpoint is of ${anchor.size}: an old copy, or a log that was rolled back`;
    return withoutLeaves(unsaid({ code: "LOG_BEHIND", message }));
  }
  const findings: Finding[] = [];
  const own: SessionLeaf[] = [];
  let edge = EMPTY_EDGE;
  const checkRoot = (checkpoint: Checkpoint, what: string): void => {
    if (!equalBytes(edgeRoot(hash, edge), checkpoint.root)) {
      findings.push(at0(LOG_DIFFERS, `The log's entries are not those under ${what}`));
    }
  };
  const take = (entries: readonly Uint8Array[]): void => {
    edge = appendLeaves(
      hash,
      edge,
      entries.map((entry) => leafHash(hash, entry)),
    ).edge;
    if (edge.size === anchor?.size) checkRoot(anchor, "the bundle's checkpoint");
  };
  if (anchor?.size === 0) checkRoot(anchor, "the bundle's checkpoint");
  const misdated = timeOrder(records.session);
  for await (const { first, entries } of readEntries(reader, end.size)) {
    const split = Math.max(0, Math.min(entries.length, (anchor?.size ?? 0) - first));
    take(entries.slice(0, split));
    if (split < entries.length) take(entries.slice(split));
    for (const [i, entry] of entries.entries()) {
      const leaf = parseLeaf(entry);
      if (leaf === null) continue;
      if (leaf.kind !== "key" && leaf.session === records.session) own.push(leaf);
      const index = first + i;
      for (const finding of [
        contradiction(records, leaf, index, anchor?.size ?? 0),
        misdated(leaf, index),
      ]) {
        if (finding !== null) findings.push(finding);
      }
    }
  }
  checkRoot(end, "its checkpoint");
  const isTheLog = !findings.some(({ code }) => code === LOG_DIFFERS);
  const leaves = isTheLog ? own : [];
  const verdict = { ok: findings.length === 0, findings };
  return { verdict: unlessRetired(verdict, "SESSION_DELETED", records.last, leaves), leaves };
}

/** What a leaf says against the records. `anchored` is the size of the checkpoint that came with them. */
function contradiction(
  { session, last, hashAt }: Evidence["records"],
  leaf: Leaf,
  index: number,
  anchored: number,
): Finding | null {
  if (leaf.kind === "key" || leaf.session !== session) return null;
  const { seq } = leaf;
  if (seq > last) {
    const message = `Leaf ${index} is of record ${seq}, the records end at ${last}`;
    if (last === 0) return { seq, code: "SESSION_DELETED", message };
    // Records are read after the checkpoint that comes with them: what is under it they would have.
    const why =
      index < anchored ? "" : ": the bundle is older than the log, or was cut; take a new one";
    return { seq, code: "TAIL_CUT", message: message + why };
  }
  if (hashAt(seq) === leaf.hash_chain) return null;
  return { seq, code: "ANCHOR_MISMATCH", message: `Leaf ${index} is of another record ${seq}` };
}

/**
 * Whether the session's leaves stand where their times do: the log's run forward. Without
 * this, a bundle that names an older checkpoint as the last one before a leaf could
 * have it dated back to then.
 */
function timeOrder(session: string): (leaf: Leaf, index: number) => Finding | null {
  /** The latest so far, of all leaves and of the session's. */
  let [latest, own] = ["", ""];
  return (leaf, index) => {
    const { timestamp } = leaf;
    let finding: Finding | null = null;
    if (leaf.kind !== "key" && leaf.session === session) {
      if (timestamp < latest) {
        const message = `Leaf ${index} says ${timestamp}, one before it ${latest}`;
        finding = { seq: leaf.seq, code: "TIME_BACKWARDS", message };
      } else {
        own = timestamp;
      }
    } else if (timestamp < own) {
      const message = `A leaf of the session says ${own}, leaf ${index} after it ${timestamp}`;
      finding = at0("TIME_BACKWARDS", message);
      own = "";
    }
    if (latest < timestamp) latest = timestamp;
    return finding;
  };
}
