/**
 * @module
 * The calls that an earlier life of the session's object left open: their
 * intents are settled and their clients answered before the session takes a
 * call, closes or is exported.
 */
import type { Ledger, OpenIntent, Receipt } from "./ledger.ts";
import { lostAnswer } from "./lost-answer.ts";
import { isLost, parseIntentNote, settleIntent } from "./settle.ts";
import type { SessionState } from "./state.ts";
import type { SessionStore } from "./store.ts";
import type { StreamRequest, Streams } from "./streams.ts";

export class LostCalls {
  readonly #env: Env;
  readonly #store: SessionStore;
  readonly #ledger: Ledger;
  readonly #streams: Streams;
  readonly #state: () => SessionState;
  readonly #onAppend: () => void;
  #intents: { seq: number; note: OpenIntent }[];
  /** Responses that were never finished, and the last record of each call that is settled. */
  readonly #unfinished: { stream: number; request: StreamRequest }[];
  readonly #receipts = new Map<string, Receipt>();
  #settling: Promise<void> | null = null;

  constructor(options: {
    env: Env;
    store: SessionStore;
    ledger: Ledger;
    streams: Streams;
    state: () => SessionState;
    /** Called after each record that settles an intent. */
    onAppend: () => void;
  }) {
    this.#env = options.env;
    this.#store = options.store;
    this.#ledger = options.ledger;
    this.#streams = options.streams;
    this.#state = options.state;
    this.#onAppend = options.onAppend;
    this.#unfinished = this.#streams.unfinished();
    this.#intents = this.#openIntents();
  }

  /**
   * Closes the intents, and answers the clients. Concurrent callers wait for the
   * same round.
   *
   * @throws Error while a Workspace cannot be asked
   */
  async settle(): Promise<void> {
    if (this.#intents.length === 0 && this.#unfinished.length === 0) return;
    this.#settling ??= this.#settle().finally(() => {
      this.#settling = null;
    });
    await this.#settling;
  }

  /** The same for what this life left open, once nothing of it is under way any more. */
  async settleAll(): Promise<void> {
    this.#intents = this.#openIntents();
    await this.settle();
  }

  /** Closes what is left: an admin change whose result the Worker never reported, so that nobody can say how it ended. */
  abandonRest(): void {
    for (const { seq, json } of this.#store.openIntents()) {
      const note = parseIntentNote(json);
      this.#ledger.result(note.role ?? this.#state().role, seq, {
        event: note.result_event,
        tool: note.tool,
        workspace_root: note.workspace_root,
        plan_hash: note.plan_hash,
        result: "error",
        error_code: "OUTCOME_UNKNOWN",
        request_id: note.request_id,
        notes: "the session closed before the outcome was reported",
      });
    }
  }

  #openIntents(): { seq: number; note: OpenIntent }[] {
    return this.#store
      .openIntents()
      .map(({ seq, json }) => ({ seq, note: parseIntentNote(json) }))
      .filter(({ note }) => isLost(note));
  }

  async #settle(): Promise<void> {
    while (this.#intents.length > 0) {
      const intent = this.#intents[0];
      if (intent === undefined) return;
      const { seq, note } = intent;
      const receipt = await settleIntent(this.#env, this.#ledger, this.#state(), seq, note);
      this.#receipts.set(note.request_id, receipt);
      this.#intents.shift();
      this.#onAppend();
    }
    for (const { stream, request } of this.#unfinished.splice(0)) {
      const receipt = this.#receipts.get(request.request_id) ?? null;
      this.#streams.append(stream, lostAnswer(request, receipt), true);
    }
    this.#receipts.clear();
  }
}
