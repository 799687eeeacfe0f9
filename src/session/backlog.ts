/**
 * @module
 * What of a session's records is still on its way to the sinks, and when each
 * sink is due: from the append of a record to the last sink that has it.
 */
import type { Config } from "../config.ts";
import {
  type FlushContext,
  flushArchive,
  flushLog,
  flushSegments,
  SEGMENT_BYTES,
  SEGMENT_INTERVAL_MS,
} from "./flush.ts";
import type { Ledger } from "./ledger.ts";
import type { Schedule } from "./schedule.ts";
import type { SessionStatus } from "./state.ts";
import { type Due, type SessionStore, SINKS } from "./store.ts";

/** Unflushed records past which a session takes no more calls. */
const MAX_UNFLUSHED = 100_000;
/** The first flush comes soon, so that a new session is in the index at once. */
const FIRST_FLUSH_MS = 500;

export class Backlog {
  readonly #store: SessionStore;
  readonly #schedule: Schedule;
  readonly #ledger: Ledger;
  readonly #context: FlushContext;
  /** Characters of record text that no segment holds yet. */
  #unsegmented: number;

  constructor(options: {
    env: Env;
    config: Config;
    store: SessionStore;
    schedule: Schedule;
    ledger: Ledger;
    sealKey: Uint8Array;
    status: () => SessionStatus;
  }) {
    const { env, config, store, schedule, ledger, sealKey, status } = options;
    const { flushIntervalMs } = config;
    this.#store = store;
    this.#schedule = schedule;
    this.#ledger = ledger;
    this.#context = { env, store, schedule, status, sealKey, flushIntervalMs };
    this.#unsegmented = store.textAfter(store.sink("segments").cursor);
  }

  /** Whether more records wait than a session may hold back. */
  get isFull(): boolean {
    return this.#ledger.head.seq - this.#store.sink("archive").cursor > MAX_UNFLUSHED;
  }

  /** Whether every sink has every record, and has none that is another. */
  get isOut(): boolean {
    const { seq } = this.#ledger.head;
    return (
      SINKS.every((sink) => this.#store.sink(sink).cursor === seq) && !this.#store.hasConflicts()
    );
  }

  /** Sees to the flush of the record that was just appended. */
  appended(): void {
    const now = Date.now();
    if (this.#schedule.at("archive") === null) {
      this.#schedule.set("archive", now + this.#context.flushIntervalMs);
    }
    this.#unsegmented += this.#ledger.lastSize;
    if (this.#schedule.at("segments") === null) {
      this.#schedule.set("segments", now + SEGMENT_INTERVAL_MS);
    }
    if (this.#unsegmented >= SEGMENT_BYTES) {
      this.#unsegmented = 0;
      this.#schedule.atLatest("segments", now);
    }
  }

  /** The due times of a new session; the alarm is the caller's to arm. */
  begin(): void {
    const now = Date.now();
    const { flushIntervalMs } = this.#context;
    this.#schedule.put("archive", now + Math.min(FIRST_FLUSH_MS, flushIntervalMs));
    this.#schedule.put("segments", now + SEGMENT_INTERVAL_MS);
  }

  /** Has all that is left go out now: the session has ended. */
  finish(): void {
    this.#schedule.set("archive", Date.now());
    this.#schedule.set("segments", Date.now());
  }

  /** Makes sure that what is left is due; `released`: that the alarm rings once more, to free the storage. */
  remind(released: boolean): void {
    for (const sink of SINKS) {
      const goal = sink === "log" ? this.#store.sink("archive").cursor : this.#ledger.head.seq;
      const left = this.#store.sink(sink).cursor < goal;
      if ((left || released) && this.#schedule.at(sink) === null) {
        this.#schedule.put(sink, Date.now());
      }
    }
  }

  /** Serves a due time; the log's turn is {@link anchor}. */
  async flush(what: Due): Promise<void> {
    if (what === "archive") await flushArchive(this.#context);
    else if (what === "segments") {
      await flushSegments(this.#context);
      this.#unsegmented = this.#store.textAfter(this.#store.sink("segments").cursor);
    }
  }

  /** Serves the log, if it or the archive was due: last, for it waits for the next commit, and anchors what was archived. */
  async anchor(ripe: readonly Due[]): Promise<void> {
    if (ripe.includes("log") || (ripe.includes("archive") && this.#isLogDue())) {
      await flushLog(this.#context);
    }
  }

  /** Whether the archive is ahead of the log; after a failure the log's own due time counts. */
  #isLogDue(): boolean {
    const log = this.#store.sink("log");
    return log.cursor < this.#store.sink("archive").cursor && this.#schedule.at("log") === null;
  }
}
