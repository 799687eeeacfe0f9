/**
 * @module
 * What a verification says: one verdict for each question, and what was found.
 */

/** `seq` is the record's position in the session; 0 stands for the export as a whole. */
export type Finding = { seq: number; code: string; message: string };

/** `ok` is null when it cannot be said from what was given. */
export type Verdict = { ok: boolean | null; findings: Finding[] };

export type Report = {
  /** Null when no record says it. */
  session_id: string | null;
  /** How many were read, unreadable ones included. */
  records: number;
  /** The last record's hash, as recomputed. */
  head: string | null;
  /** How many records no checked log leaf covers. */
  unanchored: number;
  /** The seqs of intents that no result names. */
  open_intents: number[];
  /** Whether a client's receipts hold; only there when some were given. It counts towards `anchored`. */
  receipts?: Verdict;
  /** Whether the bucket's segments are the same records; only there when they were given. */
  segments?: Verdict;
  verdicts: {
    integrity: Verdict;
    anchored: Verdict;
    completeness: Verdict;
    independence: Verdict;
    time: Verdict;
  };
};

/** Findings listed of one verdict: a wholly foreign export must not fill the reader's memory. */
export const MAX_FINDINGS = 1000;

/** A verdict's findings, in the order found. */
export type FindingList = {
  add(seq: number, code: string, message: string): void;
  /** Those listed; when there were more, a last one, `MORE_FINDINGS`, says how many. */
  list(): Finding[];
};

export function findingList(): FindingList {
  const kept: Finding[] = [];
  let left = 0;
  let leftFrom = 0;
  return {
    add(seq, code, message) {
      if (kept.length < MAX_FINDINGS) {
        kept.push({ seq, code, message });
        return;
      }
      if (left === 0) leftFrom = seq;
      left += 1;
    },
    list() {
      if (left === 0) return [...kept];
      const message = `${left} more findings, from record ${leftFrom} on, are not listed`;
      return [...kept, { seq: leftFrom, code: "MORE_FINDINGS", message }];
    },
  };
}
