/**
 * @module
 * Whether the sealed segments of the bucket are the same records: a third copy,
 * which an edit elsewhere must have met too. What is sealed stays sealed: a record's
 * hash does not cover it.
 */
import { canonicalJson } from "../audit/canonical.ts";
import type { Sha256Hex } from "../audit/hash.ts";
import { isJsonObject } from "../audit/json.ts";
import { parseCanonical } from "../audit/record.ts";
import { type Finding, findingList, type Verdict } from "../audit/report.ts";
import { type CheckedRecords, unsaid } from "./evidence.ts";

/** Null where there is no segment; the newest records may not be in one yet. */
export function checkSegments(
  hash: Sha256Hex,
  records: CheckedRecords,
  lines: Iterable<string>,
): Verdict {
  const findings = findingList();
  let expected = 1;
  for (const line of lines) {
    const finding = checkLine(line, expected);
    if (finding !== null) findings.add(finding.seq, finding.code, finding.message);
    expected += 1;
  }
  if (expected === 1) {
    return unsaid({ code: "NO_SEGMENT", message: "There is no segment of this session" });
  }
  const list = findings.list();
  return { ok: list.length === 0, findings: list };

  function checkLine(line: string, seq: number): Finding | null {
    const parsed = parseCanonical(line);
    if (!parsed.ok || !parsed.canonical || !isJsonObject(parsed.value)) {
      return {
        seq,
        code: "SEGMENT_MALFORMED",
        message: "The segment's line is no canonical record",
      };
    }
    const { hash_chain, sealed: _sealed, ...record } = parsed.value;
    const own = hash(canonicalJson(record));
    if (record.seq !== seq) {
      return { seq, code: "SEGMENT_GAP", message: `The segments have ${record.seq} in its place` };
    }
    if (own !== hash_chain || own !== records.hashAt(seq)) {
      return { seq, code: "SEGMENT_MISMATCH", message: `Record ${seq} is another in the segments` };
    }
    return null;
  }
}
