/**
 * @module
 * The due times of a session behind the object's one alarm. The alarm is set
 * only when the new time is earlier than the one set: setting it at every
 * append costs a third of the calls per second.
 */
import type { Due, SessionStore } from "./store.ts";

export class Schedule {
  readonly #store: SessionStore;
  readonly #storage: DurableObjectStorage;
  readonly #due = new Map<Due, number>();
  /** When the alarm rings, as far as this life of the object knows. */
  #alarmAt = Number.POSITIVE_INFINITY;

  constructor(store: SessionStore, storage: DurableObjectStorage) {
    this.#store = store;
    this.#storage = storage;
    for (const { what, at } of store.dueTimes()) this.#due.set(what, at);
  }

  at(what: Due): number | null {
    return this.#due.get(what) ?? null;
  }

  /** Sets a due time, later or earlier than before. Unix ms. */
  set(what: Due, at: number): void {
    this.put(what, at);
    this.#arm();
  }

  /** The same without the alarm, for use inside a transaction; `rearm` must follow. */
  put(what: Due, at: number): void {
    this.#due.set(what, at);
    this.#store.setDue(what, at);
  }

  /** Sets a due time unless an earlier one stands. */
  atLatest(what: Due, at: number): void {
    const known = this.#due.get(what);
    if (known === undefined || known > at) this.set(what, at);
  }

  clear(what: Due): void {
    if (this.#due.delete(what)) this.#store.clearDue(what);
  }

  /** What is due at `now`, earliest first. */
  ripe(now: number): Due[] {
    return [...this.#due]
      .filter(([, at]) => at <= now)
      .sort(([, a], [, b]) => a - b)
      .map(([what]) => what);
  }

  /** The platform has taken the alarm away: it rang. */
  rang(): void {
    this.#alarmAt = Number.POSITIVE_INFINITY;
  }

  /** Makes sure that an alarm is set for the earliest due time: also after a wake-up and after each ring. */
  rearm(): void {
    this.#alarmAt = Number.POSITIVE_INFINITY;
    this.#arm();
  }

  #arm(): void {
    const next = Math.min(...this.#due.values());
    if (next >= this.#alarmAt) return;
    this.#alarmAt = next;
    void this.#storage.setAlarm(next);
  }
}
