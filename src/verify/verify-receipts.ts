/**
 * @module
 * Whether the records agree with what a client was told when its calls were
 * answered: a receipt shows a cut or a rewrite that came later, whoever made it.
 */
import type { Finding, Verdict } from "../audit/report.ts";
import { at0, type CheckedRecords, unsaid } from "./evidence.ts";
import type { Receipt } from "./receipts.ts";

/** True without receipts. Null when there are some, but none of this session. */
export function checkReceipts(
  records: CheckedRecords,
  receipts: readonly Receipt[] | undefined,
): Verdict {
  if (receipts === undefined) return { ok: true, findings: [] };
  const own = receipts.filter(({ session_id }) => session_id === records.session_id);
  if (own.length === 0) {
    const { code, message } = at0("NO_RECEIPT", "None of the receipts is of this session");
    return unsaid({ code, message });
  }
  const findings: Finding[] = [];
  for (const { seq, hash_chain } of own) {
    if (seq > records.last) {
      const message = `There is a receipt for record ${seq}, the records end at ${records.last}`;
      findings.push({ seq, code: "TAIL_CUT", message });
    } else if (records.hashAt(seq) !== hash_chain) {
      const message = `Record ${seq} is not the one that the receipt is for`;
      findings.push({ seq, code: "RECEIPT_MISMATCH", message });
    }
  }
  return { ok: findings.length === 0, findings };
}
