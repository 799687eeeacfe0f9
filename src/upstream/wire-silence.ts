/**
 * @module
 * How long one request is waited for: until its caller gives up, or until the
 * upstream was silent for too long. Time in which the upstream itself waits for
 * an answer of ours is no silence of its.
 */

import type { WireFailure } from "./types.ts";

/**
 * Runs from its making until `dispose`. Each message starts the clock anew;
 * between `pause` and as many `resume` it stands. When it ends the request,
 * `signal` aborts and `reason` says why; `dispose` aborts `signal` as well, so
 * that nothing of a request outlives it, and leaves `reason` as it is.
 */
export class Silence {
  reason: "cancelled" | "timeout" | null = null;
  readonly #timeoutMs: number;
  readonly #aborter = new AbortController();
  readonly #caller: AbortSignal | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #pauses = 0;

  /** `timeoutMs` may be `Infinity`: only the caller ends it then. */
  constructor(timeoutMs: number, caller?: AbortSignal) {
    this.#timeoutMs = timeoutMs;
    this.#caller = caller;
    if (caller?.aborted === true) this.#end("cancelled");
    else {
      caller?.addEventListener("abort", this.#onAbort, { once: true });
      this.restart();
    }
  }

  get signal(): AbortSignal {
    return this.#aborter.signal;
  }

  restart(): void {
    clearTimeout(this.#timer);
    if (this.#pauses > 0 || this.reason !== null || this.#timeoutMs === Infinity) return;
    this.#timer = setTimeout(() => this.#end("timeout"), this.#timeoutMs);
  }

  pause(): void {
    this.#pauses++;
    clearTimeout(this.#timer);
  }

  resume(): void {
    this.#pauses--;
    this.restart();
  }

  dispose(): void {
    clearTimeout(this.#timer);
    this.#pauses++;
    this.#caller?.removeEventListener("abort", this.#onAbort);
    this.#aborter.abort();
  }

  readonly #onAbort = (): void => this.#end("cancelled");

  #end(reason: "cancelled" | "timeout"): void {
    if (this.reason !== null) return;
    clearTimeout(this.#timer);
    this.reason = reason;
    this.#aborter.abort();
  }
}

/** A failure that came of a silence's end says so. */
export function endedBy(found: WireFailure, silence: Silence): WireFailure {
  if (silence.reason === null) return found;
  const detail = silence.reason === "timeout" ? "Silent for too long." : "Given up by the caller.";
  return { ...found, reason: silence.reason, detail };
}

/** Waits so long, or until the signal aborts; what is longer than a timer can hold is cut. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  const LONGEST_TIMER_MS = 2 ** 31 - 1;
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, Math.min(ms, LONGEST_TIMER_MS));
    signal.addEventListener("abort", done, { once: true });
  });
}
