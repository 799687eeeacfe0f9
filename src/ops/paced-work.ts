/**
 * @module
 * Work that follows responses, at most once in a while for a whole isolate:
 * what requests leave behind is gathered in memory and written together.
 */

/** After this long, work that was planned and never began is planned anew, in ms: its request may have been cut off. */
const LOST_MS = 10_000;

export class PacedWork {
  readonly #pauseMs: number;
  #lastAt = Number.NEGATIVE_INFINITY;
  #plannedAt: number | null = null;

  constructor(pauseMs: number) {
    this.#pauseMs = pauseMs;
  }

  /** Has `work` run soon, unless it is planned already. `work` must not reject. */
  plan(later: (work: Promise<unknown>) => void, work: () => Promise<void>): void {
    const now = Date.now();
    if (this.#plannedAt !== null && now - this.#plannedAt < LOST_MS) return;
    this.#plannedAt = now;
    later(this.#run(Math.min(this.#pauseMs, this.#lastAt + this.#pauseMs - now), work));
  }

  async #run(waitMs: number, work: () => Promise<void>): Promise<void> {
    // Never at once: what one request leaves behind goes together.
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, waitMs)));
    this.#plannedAt = null;
    this.#lastAt = Date.now();
    await work();
  }
}
