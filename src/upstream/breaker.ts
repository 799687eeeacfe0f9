/**
 * @module
 * A circuit breaker an upstream, in the memory of the isolate: an upstream that
 * does not answer is not asked again by everybody at once, and its callers are
 * told at once instead of after its timeout.
 */

/** Failures in a row after which it opens. */
const MOST_FAILURES = 5;
/** How long it stays open before one call may try again, in ms. */
const OPEN_MS = 15_000;

type State = { failures: number; openUntil: number; isTrying: boolean };

export class CircuitBreaker {
  readonly #states = new Map<string, State>();

  /** Whether a call may be made; when open, one a pause may try. */
  admits(name: string, now: number): boolean {
    const state = this.#states.get(name);
    if (state === undefined || state.failures < MOST_FAILURES) return true;
    if (now < state.openUntil || state.isTrying) return false;
    state.isTrying = true;
    return true;
  }

  /** The upstream answered, whatever it said. */
  succeeded(name: string): void {
    this.#states.delete(name);
  }

  /** It could not be reached, or did not answer in time. */
  failed(name: string, now: number): void {
    const state = this.#states.get(name) ?? { failures: 0, openUntil: 0, isTrying: false };
    state.failures += 1;
    state.openUntil = now + OPEN_MS;
    state.isTrying = false;
    this.#states.set(name, state);
  }

  /** The call that tried ended without saying anything of the upstream: it was cancelled. */
  gaveUp(name: string): void {
    const state = this.#states.get(name);
    if (state !== undefined) state.isTrying = false;
  }
}
