/**
 * @module
 * One piece of work at a time for all of an isolate that ask for it.
 */

/**
 * Runs a piece of work unless it is under way already, and then answers with
 * what comes of that.
 *
 * Trade-off: the work belongs to the request that began it, and the platform
 * may end that one midway; its promise then never settles. Whoever waits
 * therefore does so for `patienceMs`, and begins the work anew.
 */
export class SingleFlight<T> {
  #current: Promise<T> | null = null;
  readonly #patienceMs: number;

  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs;
  }

  async run(work: () => Promise<T>): Promise<T> {
    const current = this.#current;
    if (current !== null) {
      const joined = await withPatience(current, this.#patienceMs);
      if (joined.ok) return joined.value;
      if (this.#current === current) this.#current = null;
      return this.run(work);
    }
    const begun = work();
    this.#current = begun;
    try {
      return await begun;
    } finally {
      if (this.#current === begun) this.#current = null;
    }
  }

  /** Lets what is under way go on for those who wait for it; who asks from now on begins anew. */
  forget(): void {
    this.#current = null;
  }
}

/** What came of work that was waited for, or that it was not done in time. */
export type Joined<T> = { ok: true; value: T } | { ok: false };

/** Waits for work, but no longer than `patienceMs`; the work goes on. */
export async function withPatience<T>(work: Promise<T>, patienceMs: number): Promise<Joined<T>> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<Joined<T>>((resolve) => {
    timer = setTimeout(() => resolve({ ok: false }), patienceMs);
  });
  try {
    return await Promise.race([work.then((value) => ({ ok: true as const, value })), late]);
  } finally {
    clearTimeout(timer);
  }
}
