/**
 * @module
 * One request of an upstream under way, and what the upstream asks of the
 * client meanwhile. It may outlive the client's request: a client of the 2026
 * era is answered with what the upstream asks, and its retry goes on with the
 * same exchange.
 */
import type { JsonObject } from "../mcp/ijson.ts";
import type { RpcNotification } from "../mcp/jsonrpc.ts";
import type { UpstreamLinks, UpstreamRequest } from "../upstream/links.ts";
import type { ClientAnswer, UpstreamEntry, WireOutcome } from "../upstream/types.ts";

/** Requests that an upstream sends within so many ms of each other are asked of the client together. */
const GATHER_MS = 25;

export type Question = { readonly method: string; readonly params: JsonObject | undefined };

/** What an exchange came to: its end, or questions that the client must answer first. */
export type Turn =
  | { readonly kind: "over"; readonly outcome: WireOutcome }
  | { readonly kind: "asked"; readonly questions: ReadonlyMap<string, Question> };

export class Exchange {
  readonly entry: UpstreamEntry;
  readonly #aborter = new AbortController();
  readonly #open = new Map<
    string,
    { question: Question; answer: (answer: ClientAnswer) => void }
  >();
  #outcome: WireOutcome | null = null;
  #changed: (() => void) | null = null;
  #asked = 0;
  /** Of whoever made the client's request that is under way, or the last one that was. */
  #accessToken: string | null;
  /** Who hears of progress now; the client's request that is under way. */
  #notify: ((notification: RpcNotification) => void) | null = null;

  /**
   * Begins the request, in the name that the token stands for. `ask` answers a question at once, or returns null for
   * one that has to wait for the client's next request.
   */
  constructor(
    links: UpstreamLinks,
    entry: UpstreamEntry,
    request: UpstreamRequest,
    accessToken: string | null,
    ask: (question: Question, signal: AbortSignal) => Promise<ClientAnswer> | null,
  ) {
    this.entry = entry;
    this.#accessToken = accessToken;
    void links
      .exchange(entry, request, {
        timeoutMs: entry.config.timeout_ms,
        signal: this.#aborter.signal,
        token: () => this.#accessToken,
        onNotification: (notification) => {
          if (isOf(request, notification)) this.#notify?.(notification);
        },
        onRequest: ({ method, params }, givenUp) => {
          const question = { method, params };
          const signal = AbortSignal.any([this.#aborter.signal, givenUp]);
          return ask(question, signal) ?? this.#wait(question, signal);
        },
      })
      .then((outcome) => {
        this.#outcome = outcome;
        this.#changed?.();
      });
  }

  /** The exchange's next turn, for the client's request that is under way now. */
  async next(signal: AbortSignal, notify: (notification: RpcNotification) => void): Promise<Turn> {
    this.#notify = notify;
    const cancel = (): void => this.#aborter.abort(signal.reason);
    if (signal.aborted) cancel();
    signal.addEventListener("abort", cancel, { once: true });
    try {
      for (;;) {
        if (this.#outcome !== null) return { kind: "over", outcome: this.#outcome };
        if (this.#open.size > 0) {
          await new Promise((resolve) => setTimeout(resolve, GATHER_MS));
          // The upstream may have answered, or taken its questions back, meanwhile.
          if (this.#outcome !== null || this.#open.size === 0) continue;
          const questions = new Map([...this.#open].map(([key, { question }]) => [key, question]));
          return { kind: "asked", questions };
        }
        await new Promise<void>((resolve) => {
          this.#changed = resolve;
        });
      }
    } finally {
      signal.removeEventListener("abort", cancel);
      this.#notify = null;
      this.#changed = null;
    }
  }

  /**
   * Hands the upstream the client's answers, in the name of whoever brings them.
   * What is not among them stays open, and is asked again.
   */
  answer(answers: Readonly<Record<string, JsonObject>>, accessToken: string | null): void {
    this.#accessToken = accessToken;
    for (const [key, { answer }] of this.#open) {
      const result = Object.hasOwn(answers, key) ? answers[key] : undefined;
      if (result === undefined) continue;
      this.#open.delete(key);
      answer({ result });
    }
  }

  /** Ends it: nobody will come back for the answer. */
  abandon(reason: string): void {
    this.#aborter.abort(new Error(reason));
  }

  /** Keeps a question until the client answers it or the upstream takes it back. */
  #wait(question: Question, signal: AbortSignal): Promise<ClientAnswer> {
    this.#asked += 1;
    const key = `${question.method.replace(/\W/g, "_")}_${this.#asked}`;
    return new Promise((resolve, reject) => {
      const drop = (): void => {
        this.#open.delete(key);
        reject(signal.reason);
      };
      if (signal.aborted) return drop();
      signal.addEventListener("abort", drop, { once: true });
      this.#open.set(key, { question, answer: resolve });
      this.#changed?.();
    });
  }
}

/** Whether a notification may be about a request: progress says which one it is about. */
function isOf({ progressToken }: UpstreamRequest, { method, params }: RpcNotification): boolean {
  return method !== "notifications/progress" || params?.progressToken === progressToken;
}

/** Exchanges that wait for a client to come back, in the memory of one session's object. */
export class WaitingExchanges {
  readonly #waiting = new Map<
    string,
    { exchange: Exchange; timer: ReturnType<typeof setTimeout> }
  >();

  /** Keeps an exchange for so long; its name is for a sealed state. */
  keep(exchange: Exchange, ms: number): string {
    const name = crypto.randomUUID();
    const timer = setTimeout(() => {
      this.#waiting.delete(name);
      exchange.abandon("the client did not come back in time");
    }, ms);
    this.#waiting.set(name, { exchange, timer });
    return name;
  }

  take(name: string): Exchange | null {
    const found = this.#waiting.get(name);
    if (found === undefined) return null;
    clearTimeout(found.timer);
    this.#waiting.delete(name);
    return found.exchange;
  }

  get size(): number {
    return this.#waiting.size;
  }

  abandonAll(reason: string): void {
    for (const { exchange, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      exchange.abandon(reason);
    }
    this.#waiting.clear();
  }
}
