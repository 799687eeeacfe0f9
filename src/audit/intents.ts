/**
 * @module
 * Which intents have had their result: exactly one each, once the session is
 * closed, and nothing after the close.
 */
import type { AuditRecord } from "./record.ts";
import { type Finding, type FindingList, findingList } from "./report.ts";

export type IntentLedger = {
  /** An intact record, at its position. */
  take(seq: number, record: AuditRecord): void;
  /**
   * A position whose record cannot be believed, and is reported as such: it may
   * have been the intent that a result names, or the result that an intent lacks.
   */
  damaged(seq: number): void;
  /** The seqs of intents without a result, ascending. */
  open(): number[];
  /** If the session was closed, a finding for each of them that no damaged record can have answered. */
  openAtClose(): Finding[];
};

export function intentLedger(findings: FindingList): IntentLedger {
  const open = new Set<number>();
  const answered = new Set<number>();
  const unsure = new Set<number>();
  let lastUnsure = 0;
  let closedAt: number | null = null;
  let reportedClose = false;

  function takeResult(seq: number, intent: number | null): void {
    if (intent !== null && answered.has(intent)) {
      findings.add(seq, "DUPLICATE_RESULT", `A second result of intent ${intent}`);
    } else if (intent !== null && open.delete(intent)) {
      answered.add(intent);
    } else if (intent === null || !unsure.has(intent)) {
      findings.add(seq, "INTENT_UNKNOWN", `A result of ${intent}, which is no earlier intent`);
    }
  }

  return {
    take(seq, record) {
      if (closedAt !== null && !reportedClose) {
        reportedClose = true;
        findings.add(seq, "AFTER_CLOSE", `A record after the session's close, ${closedAt}`);
      }
      if (record.event === "tool_intent" && !answered.has(seq)) open.add(seq);
      else if (record.event === "tool_result") takeResult(seq, record.intent_seq);
      else if (record.event === "session_close") closedAt ??= seq;
    },
    damaged(seq) {
      unsure.add(seq);
      lastUnsure = Math.max(lastUnsure, seq);
    },
    open: () => [...open].sort((a, b) => a - b),
    openAtClose() {
      if (closedAt === null) return [];
      const found = findingList();
      for (const seq of [...open].sort((a, b) => a - b)) {
        if (seq < lastUnsure) continue;
        found.add(seq, "INTENT_OPEN", "The session is closed, and this intent has no result");
      }
      return found.list();
    },
  };
}
