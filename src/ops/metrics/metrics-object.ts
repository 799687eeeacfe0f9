/**
 * @module
 * The Metrics object: one a deployment. It adds up what isolates have counted,
 * keeps the gauges that only an object can know, and remembers which alerts
 * went out.
 *
 * Each isolate numbers what it pushes, so that a push that is repeated because
 * its answer was lost is not counted twice. Trade-off: one object for all
 * regions takes one small write a second from each busy isolate; the calls
 * themselves never wait for it.
 */
import { DurableObject } from "cloudflare:workers";
import type { Sample } from "./series.ts";

const TABLES = `
  CREATE TABLE IF NOT EXISTS counts (
    metric TEXT NOT NULL, labels TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (metric, labels)
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS pushes (
    isolate TEXT PRIMARY KEY, number INTEGER NOT NULL, at INTEGER NOT NULL
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS gauges (
    metric TEXT NOT NULL, labels TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (metric, labels)
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS stalled (
    sink TEXT NOT NULL, session_id TEXT NOT NULL, since INTEGER NOT NULL,
    PRIMARY KEY (sink, session_id)
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS stalled_since ON stalled (sink, since);
  CREATE TABLE IF NOT EXISTS alerts (
    key TEXT PRIMARY KEY, sent_at INTEGER NOT NULL, suppressed INTEGER NOT NULL
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS unsent (
    key TEXT PRIMARY KEY, receiver INTEGER NOT NULL, alert TEXT NOT NULL, at INTEGER NOT NULL
  ) WITHOUT ROWID;
`;

/** How long the numbers of an isolate that pushes nothing more are kept, in ms. */
const PUSHES_KEPT_MS = 3_600_000;
const ALERTS_KEPT_MS = 7 * 86_400_000;
const PRUNE_EVERY = 1_000;

/** What a scrape gets: counts, gauges, and for each sink since when a flush is overdue, Unix ms. */
export type Snapshot = {
  readonly counts: Sample[];
  readonly gauges: Sample[];
  readonly stalled: { sink: string; since: number; sessions: number }[];
};

/** An alert as JSON, and the place of its receiver in the configuration. */
export type Unsent = { readonly receiver: number; readonly alert: string };

export class MetricsObject extends DurableObject<Env> {
  #pushes = 0;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    ctx.storage.sql.exec(TABLES);
  }

  get #sql(): SqlStorage {
    return this.ctx.storage.sql;
  }

  /** Adds what an isolate has counted, unless this push of it was added before. */
  push(isolate: string, number: number, samples: readonly Sample[]): void {
    this.ctx.storage.transactionSync(() => {
      const known = this.#sql
        .exec<{ number: number }>("SELECT number FROM pushes WHERE isolate = ?", isolate)
        .toArray()[0];
      if (known !== undefined && known.number >= number) return;
      this.#sql.exec(
        `INSERT INTO pushes (isolate, number, at) VALUES (?1, ?2, ?3)
         ON CONFLICT (isolate) DO UPDATE SET number = excluded.number, at = excluded.at`,
        isolate,
        number,
        Date.now(),
      );
      this.#sql.exec(
        `INSERT INTO counts (metric, labels, value)
         SELECT value ->> '$.metric', value ->> '$.labels', value ->> '$.value'
         FROM json_each(?) WHERE true
         ON CONFLICT (metric, labels) DO UPDATE SET value = value + excluded.value`,
        JSON.stringify(samples),
      );
    });
    this.#pushes += 1;
    if (this.#pushes % PRUNE_EVERY === 0) this.#prune();
  }

  /** Sets gauges; each keeps its value until it is set again. */
  setGauges(samples: readonly Sample[]): void {
    this.#sql.exec(
      `INSERT INTO gauges (metric, labels, value)
       SELECT value ->> '$.metric', value ->> '$.labels', value ->> '$.value'
       FROM json_each(?) WHERE true
       ON CONFLICT (metric, labels) DO UPDATE SET value = excluded.value`,
      JSON.stringify(samples),
    );
  }

  /** A session's flush to a sink is overdue since a time (Unix ms), or no longer. */
  noteFlush(sink: string, sessionId: string, since: number | null): void {
    if (since === null) {
      this.#sql.exec("DELETE FROM stalled WHERE sink = ? AND session_id = ?", sink, sessionId);
      return;
    }
    this.#sql.exec(
      `INSERT INTO stalled (sink, session_id, since) VALUES (?, ?, ?)
       ON CONFLICT DO UPDATE SET since = min(since, excluded.since)`,
      sink,
      sessionId,
      since,
    );
  }

  /** The sessions whose flush has been overdue for longest. */
  stalledSessions(limit: number): { sink: string; session_id: string; since: number }[] {
    return this.#sql
      .exec<{ sink: string; session_id: string; since: number }>(
        "SELECT sink, session_id, since FROM stalled ORDER BY since LIMIT ?",
        limit,
      )
      .toArray();
  }

  /**
   * Whether an alert may go out now: once in `everyMs` for each key. Answers
   * with how many were held back since the last one, or null to hold this back.
   * What was kept of the key is not, any more: whoever claims it sends one.
   */
  claimAlert(key: string, everyMs: number): number | null {
    const now = Date.now();
    const known = this.#sql
      .exec<{ sent_at: number; suppressed: number }>(
        "SELECT sent_at, suppressed FROM alerts WHERE key = ?",
        key,
      )
      .toArray()[0];
    if (known !== undefined && now - known.sent_at < everyMs) {
      this.#sql.exec("UPDATE alerts SET suppressed = suppressed + 1 WHERE key = ?", key);
      return null;
    }
    this.#sql.exec(
      `INSERT INTO alerts (key, sent_at, suppressed) VALUES (?, ?, 0)
       ON CONFLICT (key) DO UPDATE SET sent_at = excluded.sent_at, suppressed = 0`,
      key,
      now,
    );
    this.#sql.exec("DELETE FROM unsent WHERE key = ?", key);
    return known?.suppressed ?? 0;
  }

  /** Takes a claim back, for what could not be done with it; those that were held back stay so. */
  releaseAlert(key: string, everyMs: number, heldBack = 0): void {
    this.#sql.exec(
      "UPDATE alerts SET sent_at = ?, suppressed = ? WHERE key = ?",
      Date.now() - everyMs,
      heldBack,
      key,
    );
  }

  /** The same for an alert that its receiver did not take: it is kept until there is a newer one of its key. */
  keepUnsent(key: string, everyMs: number, heldBack: number, unsent: Unsent): void {
    this.releaseAlert(key, everyMs, heldBack);
    this.#sql.exec(
      "INSERT OR REPLACE INTO unsent (key, receiver, alert, at) VALUES (?, ?, ?, ?)",
      key,
      unsent.receiver,
      unsent.alert,
      Date.now(),
    );
  }

  /** What receivers did not take before a time (Unix ms), the oldest first. */
  unsentAlerts(before: number): Unsent[] {
    return this.#sql
      .exec<{ receiver: number; alert: string }>(
        "SELECT receiver, alert FROM unsent WHERE at < ? ORDER BY at",
        before,
      )
      .toArray();
  }

  snapshot(): Snapshot {
    return {
      counts: this.#sql.exec<Sample>("SELECT metric, labels, value FROM counts").toArray(),
      gauges: this.#sql.exec<Sample>("SELECT metric, labels, value FROM gauges").toArray(),
      stalled: this.#sql
        .exec<{ sink: string; since: number; sessions: number }>(
          "SELECT sink, min(since) AS since, count(*) AS sessions FROM stalled GROUP BY sink",
        )
        .toArray(),
    };
  }

  #prune(): void {
    this.#sql.exec("DELETE FROM pushes WHERE at < ?", Date.now() - PUSHES_KEPT_MS);
    this.#sql.exec("DELETE FROM alerts WHERE sent_at < ?", Date.now() - ALERTS_KEPT_MS);
    // Of a receiver that is configured no longer, or takes nothing for days.
    this.#sql.exec("DELETE FROM unsent WHERE at < ?", Date.now() - ALERTS_KEPT_MS);
  }
}
