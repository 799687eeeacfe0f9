/**
 * @module
 * What an isolate has seen of connections and not written yet. Bounded under
 * flood: in each minute only the first of a kind are kept whole; of the others
 * one is, and says how many it stands for. So the counts of all rows add up to
 * what there was.
 */
import type { Connection } from "./connection.ts";

const WINDOW_MS = 60_000;
/** Refusals of one reason that are kept whole, in a minute and isolate. */
const WHOLE_REFUSALS = 20;
/** The same for connections that were let in, which limits of their own bound. */
const WHOLE_ACCEPTED = 600;
/** Rows that wait while they cannot be written; what comes after that is only counted. */
const MAX_WAITING = 2_000;

/** A row: `count` connections like this one, itself included. */
export type ConnectionRow = Connection & { readonly id: string; readonly count: number };

type Kind = { whole: number; rest: ConnectionRow | null };

export class ConnectionBuffer {
  readonly #newId: () => string;
  #windowAt = Number.NEGATIVE_INFINITY;
  #kinds = new Map<string, Kind>();
  /** By id: a row that stands for more by now takes its own place. */
  #waiting = new Map<string, ConnectionRow>();

  constructor(newId: () => string) {
    this.#newId = newId;
  }

  get isEmpty(): boolean {
    return this.#waiting.size === 0;
  }

  /** Puts down a connection, whole or as one more of its kind. */
  add(connection: Connection, now: number): void {
    if (now - this.#windowAt >= WINDOW_MS) {
      this.#windowAt = now;
      this.#kinds = new Map();
    }
    const name = `${connection.outcome} ${connection.reason}`;
    const kind = this.#kinds.get(name) ?? { whole: 0, rest: null };
    this.#kinds.set(name, kind);
    const limit = connection.outcome === "refused" ? WHOLE_REFUSALS : WHOLE_ACCEPTED;
    if (kind.whole < limit && this.#waiting.size < MAX_WAITING) {
      kind.whole += 1;
      this.#put({ ...connection, id: this.#newId(), count: 1 });
      return;
    }
    const { rest } = kind;
    kind.rest =
      rest === null
        ? { ...connection, id: this.#newId(), count: 1 }
        : { ...rest, count: rest.count + 1 };
    this.#put(kind.rest);
  }

  /** Takes what is to be written. Writing a row again replaces it: its count is the whole one. */
  take(): ConnectionRow[] {
    const rows = [...this.#waiting.values()];
    this.#waiting = new Map();
    return rows;
  }

  /** Puts back what could not be written, unless a newer state of it is there. */
  putBack(rows: readonly ConnectionRow[]): void {
    for (const row of rows) if (!this.#waiting.has(row.id)) this.#put(row);
  }

  #put(row: ConnectionRow): void {
    this.#waiting.set(row.id, row);
  }
}
