/**
 * @module
 * Which intents have had their result: exactly one each, once the session is
 * closed, and nothing after the close. An intent is a record that is pending, of
 * whichever event.
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
  /** The event that answers each. */
  const open = new Map<number, string>();
  const answered = new Map<number, string>();
  const unsure = new Set<number>();
  let lastUnsure = 0;
  let closedAt: number | null = null;
  let reportedClose = false;

  /** A record may name an intent of another pair: it belongs to it then, and does not answer it. */
  function isResult({ event, intent_seq }: AuditRecord): boolean {
    if (event === "tool_result") return true;
    return intent_seq !== null && (open.get(intent_seq) ?? answered.get(intent_seq)) === event;
  }

  function takeResult(seq: number, { event, intent_seq: intent, result }: AuditRecord): void {
    if (result === "pending") {
      findings.add(seq, "RESULT_PENDING", `The result of intent ${intent} is itself pending`);
    } else if (intent !== null && answered.get(intent) === event) {
      findings.add(seq, "DUPLICATE_RESULT", `A second result of intent ${intent}`);
    } else if (intent !== null && open.get(intent) === event) {
      open.delete(intent);
      answered.set(intent, event);
    } else if (intent === null || !unsure.has(intent)) {
      findings.add(seq, "INTENT_UNKNOWN", `A result of ${intent}, which is no earlier intent`);
    }
  }

  const openSeqs = (): number[] => [...open.keys()].sort((a, b) => a - b);

  return {
    take(seq, record) {
      const { event, result } = record;
      if (closedAt !== null && !reportedClose) {
        reportedClose = true;
        findings.add(seq, "AFTER_CLOSE", `A record after the session's close, ${closedAt}`);
      }
      if (isResult(record)) takeResult(seq, record);
      else if ((result === "pending" || event === "tool_intent") && !answered.has(seq)) {
        open.set(seq, resultEvent(event));
      }
      if (event === "session_close") closedAt ??= seq;
    },
    damaged(seq) {
      unsure.add(seq);
      lastUnsure = Math.max(lastUnsure, seq);
    },
    open: openSeqs,
    openAtClose() {
      if (closedAt === null) return [];
      const found = findingList();
      for (const seq of openSeqs()) {
        if (seq < lastUnsure) continue;
        found.add(seq, "INTENT_OPEN", "The session is closed, and this intent has no result");
      }
      return found.list();
    },
  };
}

/** What the result of an intent is called: both records of a pair are of one event, but for a tool's. */
function resultEvent(event: string): string {
  return event === "tool_intent" ? "tool_result" : event;
}
