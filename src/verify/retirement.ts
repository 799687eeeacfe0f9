/**
 * @module
 * A session of which no record is there: retired for its age, as the log says, or
 * deleted. That it was retired excuses nothing for good: whether it had been kept for
 * as long as it was to be is told by the times of the leaves, which the finding names.
 */
import type { Finding, Verdict } from "../audit/report.ts";
import type { RetireLeaf } from "../log/leaf.ts";
import type { SessionLeaf } from "./evidence.ts";

/**
 * The verdict on records of which the last is at `last`. Where there are none, and all that was found
 * is that they are `missing`, it cannot be given if the session's leaves, in the log's order, end with its retirement.
 */
export function unlessRetired(
  verdict: Verdict,
  missing: string,
  last: number,
  leaves: readonly SessionLeaf[],
): Verdict {
  if (last > 0 || verdict.findings.some(({ code }) => code !== missing)) return verdict;
  const retirement = retirementOf(leaves);
  return retirement === null ? verdict : { ok: null, findings: [retirement] };
}

/** An erasure leaves the chain, so that it is no reason for records to be missing. */
function retirementOf(leaves: readonly SessionLeaf[]): Finding | null {
  const end = leaves.findLastIndex(({ kind }) => kind !== "retire");
  const newest = leaves[end];
  const retired = leaves.slice(end + 1).find(isRetention);
  if (newest === undefined || retired === undefined) return null;
  const { seq, hash_chain, reason, timestamp } = retired;
  // Of an earlier record it would hide that the session had gone on.
  if (seq !== newest.seq || hash_chain !== newest.hash_chain) return null;
  const message = `No record is left: the log had the last one, ${seq}, on ${newest.timestamp}, and the session retired on ${timestamp} (${reason})`;
  return { seq, code: "SESSION_RETIRED", message };
}

function isRetention(leaf: SessionLeaf): leaf is RetireLeaf {
  return leaf.kind === "retire" && leaf.reason === "retention";
}
