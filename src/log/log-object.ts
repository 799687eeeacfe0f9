/**
 * @module
 * The Log object, one for a deployment: takes leaves from the sessions' flush,
 * commits them in batches, at most one a second, and has the witnesses cosign
 * what was published.
 *
 * Lifecycle: it remembers nothing that its storage and the bucket do not hold.
 * The writer is opened at the first use of a life and thrown away after any
 * error; the next one finds out what was persisted. What is waiting for a
 * commit lives in memory alone: the sessions keep it and offer it again.
 */
import { DurableObject } from "cloudflare:workers";
import { type Config, requireConfig } from "../config.ts";
import { type AlarmBeside, soundAlarm } from "../ops/alerts/alarm.ts";
import { logEvent } from "../ops/log.ts";
import { logBucket, TEXT, witnessedCopyName } from "./bucket.ts";
import { decodeEntries, encodeEntries } from "./entries.ts";
import { logSigners } from "./keys.ts";
import { leafSchema } from "./leaf.ts";
import { HASH_BYTES } from "./merkle.ts";
import { formatVkey } from "./note.ts";
import { LogRefused, type RefusalReason } from "./refusal.ts";
import type { OfferedLeaf, Outcome } from "./sequence.ts";
import { type CheckpointRow, type LeafRow, LogStore } from "./store.ts";
import { TILE_WIDTH, type Tile } from "./tiles.ts";
import { witnessRound } from "./witness-round.ts";
import { LogWriter } from "./writer.ts";

const COMMIT_INTERVAL_MS = 1_000;
/** Leaves of one commit: as JSON its staged copy stays below the 2 MB of one row. */
const MAX_COMMIT_LEAVES = 2_048;
/** Leaves that wait in memory; more are refused, and their sessions come again. */
const MAX_WAITING_LEAVES = 20_000;
/**
 * A commit waits so long for cosignatures that are being asked for: then the
 * times of the leaves come after those of the checkpoint before them.
 */
const COSIGNING_GRACE_MS = 750;
/** How long a refusal is answered without looking again. */
const REFUSAL_MS = 30_000;
/** An interrupted commit is carried through so soon, should no session come before; later after each failure. */
const REPLAY_MS = 5_000;
const MAX_REPLAY_MS = 5 * 60_000;
/** Any time: what is offered is checked before its time is known. */
const SOME_TIME = "1970-01-01T00:00:00.000Z";

/** What came of leaves: each is under a published checkpoint, or refused; or none of them could be taken now. */
export type Submitted =
  | { readonly ok: true; readonly outcomes: readonly Outcome[] }
  | { readonly ok: false; readonly message: string };

type Waiting = {
  readonly leaves: readonly OfferedLeaf[];
  readonly done: (submitted: Submitted) => void;
};

export type WitnessStatus = {
  readonly name: string;
  readonly ok: boolean;
  readonly size: number;
  readonly cosigned_at: string | null;
  readonly error: string | null;
};

export type LogStatus = {
  readonly origin: string;
  /** Current first; both during a rotation. */
  readonly vkeys: readonly string[];
  readonly size: number;
  readonly published_at: string | null;
  readonly witnessed_size: number;
  /** Whether it can sign; if not, `refused` says why, or a store does not answer. */
  readonly open: boolean;
  readonly refused: RefusalReason | null;
  readonly witnesses: readonly WitnessStatus[];
};

export type LeafBounds = {
  /** In the order asked: sizes of the last kept checkpoint without the leaf, and of the first with it. */
  readonly sizes: readonly { readonly before: number | null; readonly after: number | null }[];
  readonly notes: ReadonlyMap<number, string>;
};

/** The newest head of a session's chain that the log holds. */
export type Anchor = {
  readonly seq: number;
  readonly hash_chain: string;
  /** Whether the log says that the session left the archive, and that its arguments were erased. */
  readonly retired: boolean;
  readonly erased: boolean;
};

export class LogObject extends DurableObject<Env> {
  readonly #store: LogStore;
  #writer: LogWriter | null = null;
  #refused: { readonly error: LogRefused; readonly until: number } | null = null;
  readonly #waiting: Waiting[] = [];
  #running: Promise<void> | null = null;
  #lastCommit = 0;
  /** Errors in a row. */
  #failures = 0;
  #round: Promise<void> | null = null;
  /** The end of whatever uses the bucket's checkpoint: commits and cosignatures take turns. */
  #turn: Promise<void> = Promise.resolve();

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#store = new LogStore(ctx.storage);
  }

  /** Not in the constructor: a configuration that is broken would make it throw, and lose the alarm. */
  get #config(): Config {
    return requireConfig(this.env);
  }

  // ── leaves ──────────────────────────────────────────────────────────────

  /** Takes a session's leaves, in its order; answered once they are under a published checkpoint. */
  submit(leaves: readonly OfferedLeaf[]): Promise<Submitted> {
    // One that is no leaf must not take the batch of others with it.
    const timed = leaves.map((leaf) => ({ ...leaf, timestamp: SOME_TIME, v: 1 }));
    if (!timed.every((leaf) => leafSchema.safeParse(leaf).success)) {
      return Promise.resolve({ ok: false, message: "what was offered is no leaf" });
    }
    const waiting = this.#waiting.reduce((sum, entry) => sum + entry.leaves.length, 0);
    if (waiting + leaves.length > MAX_WAITING_LEAVES) {
      return Promise.resolve({ ok: false, message: "the log has too many leaves waiting" });
    }
    return new Promise((done) => {
      this.#waiting.push({ leaves, done });
      this.#running ??= this.#run().finally(() => {
        this.#running = null;
      });
    });
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      await this.#pace();
      await this.#inTurn(() => this.#commitBatch());
    }
  }

  async #pace(): Promise<void> {
    // A clock that was set back must not make the log wait for it.
    const since = Math.max(0, Date.now() - this.#lastCommit);
    if (since < COMMIT_INTERVAL_MS) await pause(COMMIT_INTERVAL_MS - since);
    if (this.#round !== null) await Promise.race([this.#round, pause(COSIGNING_GRACE_MS)]);
  }

  async #commitBatch(): Promise<void> {
    const batch = this.#nextBatch();
    try {
      const writer = await this.#open();
      const before = writer.size;
      const leaves = batch.flatMap((entry) => entry.leaves);
      const outcomes = await writer.commit(leaves, Date.now());
      if (writer.size > before) this.#published();
      let at = 0;
      for (const { leaves: own, done } of batch) {
        done({ ok: true, outcomes: outcomes.slice(at, at + own.length) });
        at += own.length;
      }
    } catch (error) {
      if (error !== this.#refused?.error) await this.#failed(error);
      // In words, not as an error: one that crosses to another object is logged as uncaught on the way.
      for (const { done } of batch) done({ ok: false, message: String(error) });
    }
  }

  #nextBatch(): Waiting[] {
    const batch: Waiting[] = [];
    let leaves = 0;
    for (const entry of this.#waiting) {
      leaves += entry.leaves.length;
      if (batch.length > 0 && leaves > MAX_COMMIT_LEAVES) break;
      batch.push(entry);
    }
    this.#waiting.splice(0, batch.length);
    return batch;
  }

  /** Told beside the work: nothing of the log waits for a receiver of alerts. */
  readonly #alarm: AlarmBeside = (alarm, summary, fields) => {
    this.ctx.waitUntil(soundAlarm(this.env, alarm, summary, fields));
  };

  #published(): void {
    this.#lastCommit = Date.now();
    if (this.#config.witnesses.length > 0) void this.ctx.storage.setAlarm(Date.now());
  }

  /** Nothing in memory is trusted after an error: the next use opens the log anew. */
  async #failed(error: unknown): Promise<void> {
    this.#writer = null;
    this.#lastCommit = Date.now();
    if (error instanceof LogRefused) {
      this.#refused = { error, until: Date.now() + REFUSAL_MS };
      this.#alarm("log_refused", "The transparency log refuses to sign.", {
        reason: error.reason,
        detail: error.message,
      });
      return;
    }
    logEvent("error", "log_commit_failed", { error: String(error) });
    if (!this.#store.begun) return;
    const pauseMs = Math.min(MAX_REPLAY_MS, REPLAY_MS * 2 ** Math.min(this.#failures, 10));
    this.#failures += 1;
    await this.ctx.storage.setAlarm(Date.now() + pauseMs);
  }

  async #open(): Promise<LogWriter> {
    if (this.#writer !== null) return this.#writer;
    if (this.#refused !== null && Date.now() < this.#refused.until) throw this.#refused.error;
    this.#refused = null;
    const { logOrigin: origin, logSeeds } = this.#config;
    this.#writer = await LogWriter.open({
      store: this.#store,
      bucket: logBucket(this.env.BUCKET),
      origin,
      signers: await logSigners(origin, logSeeds),
      alarm: this.#alarm,
    });
    this.#failures = 0;
    return this.#writer;
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  // ── witnesses ───────────────────────────────────────────────────────────

  override async alarm(): Promise<void> {
    try {
      if (!(await this.#isOpen())) return;
      this.#round ??= this.#cosign().finally(() => {
        this.#round = null;
      });
      await this.#round;
    } catch (error) {
      // An alarm that throws is retried a few times and then dropped for good.
      logEvent("error", "log_alarm_failed", { error: String(error) });
      await this.ctx.storage.setAlarm(Date.now() + REPLAY_MS);
    }
  }

  /** Opens the log where this life has not yet: false when it refuses, or a store does not answer. */
  async #isOpen(): Promise<boolean> {
    await this.#inTurn(async () => {
      try {
        await this.#open();
      } catch (error) {
        // A refusal is said once, not at every look at it.
        if (error !== this.#refused?.error) await this.#failed(error);
      }
    });
    return this.#writer !== null;
  }

  async #cosign(): Promise<void> {
    const { witnesses, witnessPolicy: policy } = this.#config;
    if (witnesses.length === 0 || !this.#store.begun) return;
    const { cosigned, nextAt } = await witnessRound({
      store: this.#store,
      bucket: this.env.BUCKET,
      witnesses,
      policy,
      send: (input, init) => fetch(input, init),
      now: () => Date.now(),
      alarm: this.#alarm,
    });
    if (cosigned !== null) await this.#inTurn(() => this.#showCosigned(cosigned));
    if (nextAt !== null) await this.ctx.storage.setAlarm(Math.max(nextAt, Date.now() + 1));
  }

  /** The bucket's checkpoint with its cosignatures, unless a newer one is there already. */
  async #showCosigned({ size, note, witnessed }: CheckpointRow): Promise<void> {
    const bucket = logBucket(this.env.BUCKET);
    if (this.#writer !== null && this.#store.latest()?.size === size) {
      await bucket.putCheckpoint(note);
    }
    if (witnessed) {
      // More cosignatures may have come since the first quorum: what is there already stays.
      await bucket.putOnce(witnessedCopyName(size), new TextEncoder().encode(note), TEXT);
    }
  }

  // ── what is asked ───────────────────────────────────────────────────────

  async status(): Promise<LogStatus> {
    const { logOrigin: origin, logSeeds, witnesses } = this.#config;
    const isOpen = await this.#isOpen();
    const latest = this.#store.latest();
    return {
      origin,
      vkeys: (await logSigners(origin, logSeeds)).map(({ key }) => formatVkey(key)),
      size: latest?.size ?? 0,
      published_at: latest === null ? null : new Date(latest.at).toISOString(),
      witnessed_size: this.#store.witnessed()?.size ?? 0,
      open: isOpen,
      refused: this.#refused?.error.reason ?? null,
      witnesses: witnesses.map(({ name, vkey }) => {
        const { size, cosignedAt, error } = this.#store.witness(vkey);
        return {
          name,
          ok: error === null,
          size,
          cosigned_at: cosignedAt === null ? null : new Date(cosignedAt).toISOString(),
          error,
        };
      }),
    };
  }

  /** Keys that sign no more, as vkeys: what they signed stays signed. */
  retiredKeys(): string[] {
    return this.#store.keys().flatMap(({ vkey, retired }) => (retired ? [vkey] : []));
  }

  /** The signed checkpoint of a size, of the newest without one; null when none of it was published. */
  checkpoint(size?: number): string | null {
    const row = size === undefined ? this.#store.latest() : this.#store.checkpoint(size);
    return row?.note ?? null;
  }

  /** The newest checkpoint that a quorum of witnesses has cosigned, or null. */
  witnessedCheckpoint(): string | null {
    return this.#store.witnessed()?.note ?? null;
  }

  /** A session's leaves by the genesis of its chain, in the log's order. */
  leavesOf(session: string): LeafRow[] {
    return this.#store.leavesOf(session);
  }

  /** What the log last anchored of a session's chain: a record's seq and hash, and which retirements it has of it. */
  anchored(session: string): Anchor | null {
    const leaf = this.#store.newest(session);
    if (leaf === null) return null;
    const { seq, hash_chain } = leaf;
    const has = (reason: string) =>
      this.#store.find({ session, kind: `retire:${reason}`, seq }) !== null;
    return { seq, hash_chain, retired: has("retention"), erased: has("erasure") };
  }

  /** The last kept checkpoint without the leaf of this index, and the first with it. */
  around(index: number): { before: CheckpointRow | null; after: CheckpointRow | null } {
    return { before: this.#store.before(index), after: this.#store.after(index) };
  }

  /** The sizes of those of many leaves, and each checkpoint once: a bundle asks for hundreds. */
  bounds(indexes: readonly number[]): LeafBounds {
    const notes = new Map<number, string>();
    const keep = (row: CheckpointRow | null): number | null => {
      if (row !== null) notes.set(row.size, row.note);
      return row?.size ?? null;
    };
    const sizes = indexes.map((index) => {
      const { before, after } = this.around(index);
      return { before: keep(before), after: keep(after) };
    });
    return { sizes, notes };
  }

  /** A partial tile of the published tree. `full`: it has been completed since, and is in the bucket. */
  partialTile({ level, index, width }: Tile): Uint8Array | "full" | null {
    const size = this.#store.latest()?.size ?? 0;
    const hashes = Math.floor(size / TILE_WIDTH ** (level === "entries" ? 0 : level));
    const unfinished = Math.floor(hashes / TILE_WIDTH);
    if (index < unfinished) return "full";
    if (index > unfinished || width > hashes % TILE_WIDTH) return null;
    const { edge, tail } = this.#store.load();
    if (level !== "entries") return edge.get(level)?.slice(0, width * HASH_BYTES) ?? null;
    return encodeEntries((decodeEntries(tail) ?? []).slice(0, width));
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
