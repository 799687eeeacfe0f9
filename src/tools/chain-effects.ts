/**
 * @module
 * What a session's chain says it did to workspaces, held against the
 * workspaces' journals. The chain was read first and goes on meanwhile, so that
 * only what it can know about counts.
 */
import type { AuditRecord } from "../audit/record.ts";
import { effectSchema } from "../workspace/types.ts";

export class ChainEffects {
  /** Root → seq of the intent → SHA-256 afterwards. */
  readonly #effects = new Map<string, Map<number, string | null>>();
  /** Intents whose outcome the chain leaves open: still under way, or lost. */
  readonly #open = new Set<number>();
  #lastSeq = 0;

  /** Takes the next record; null where the line is none. */
  note(seq: number, record: AuditRecord | null): void {
    this.#lastSeq = Math.max(this.#lastSeq, seq);
    if (record === null) return;
    if (record.event === "tool_intent") this.#open.add(record.seq);
    if (record.event !== "tool_result" || record.intent_seq === null) return;
    if (record.error_code !== "OUTCOME_UNKNOWN") this.#open.delete(record.intent_seq);
    // A change whose answer was lost is recorded as such, with its effect where it became known.
    const effect = effectSchema.safeParse(record.context?.effect);
    if (!effect.success || record.workspace_root === null) return;
    const ofRoot = this.#effects.get(record.workspace_root) ?? new Map<number, string | null>();
    ofRoot.set(record.intent_seq, effect.data.sha256_after);
    this.#effects.set(record.workspace_root, ofRoot);
  }

  roots(): Set<string> {
    return new Set(this.#effects.keys());
  }

  /** What the journal of a workspace (seq → SHA-256 afterwards) and the chain do not agree on. */
  differences(root: string, journal: ReadonlyMap<number, string | null>): string[] {
    const chain = this.#effects.get(root) ?? new Map<number, string | null>();
    const messages: string[] = [];
    for (const [seq, sha256] of chain) {
      if (!journal.has(seq)) messages.push(`The workspace knows no change by the call ${seq}.`);
      else if (journal.get(seq) !== sha256) messages.push(`The call ${seq} wrote something else.`);
    }
    for (const seq of journal.keys()) {
      if (chain.has(seq) || this.#open.has(seq) || seq > this.#lastSeq) continue;
      messages.push(`The change of the call ${seq} is not in the chain.`);
    }
    return messages;
  }
}
