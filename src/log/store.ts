/**
 * @module
 * The storage of the Log object: its tables and every statement on them. All
 * of it is synchronous; a method that changes several rows does so in one
 * transaction. An object that was merely asked stores nothing.
 */
import * as z from "zod";
import { parseLeaf } from "./leaf.ts";
import { type KnownLeaf, type KnownLeaves, type LeafKey, leafKey } from "./sequence.ts";

const TABLES = `
  CREATE TABLE IF NOT EXISTS head (
    id INTEGER PRIMARY KEY CHECK (id = 1), size INTEGER NOT NULL, note TEXT NOT NULL
  );
  CREATE TABLE IF NOT EXISTS staged (id INTEGER PRIMARY KEY CHECK (id = 1), json TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS edge (level INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
  CREATE TABLE IF NOT EXISTS tail (id INTEGER PRIMARY KEY CHECK (id = 1), bytes BLOB NOT NULL);
  CREATE TABLE IF NOT EXISTS checkpoints (
    size INTEGER PRIMARY KEY, note TEXT NOT NULL, at INTEGER NOT NULL,
    cosigned_at INTEGER NOT NULL DEFAULT 0, witnessed INTEGER NOT NULL DEFAULT 0
  );
  CREATE TABLE IF NOT EXISTS leaves (
    session BLOB NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, idx INTEGER NOT NULL,
    hash_chain BLOB NOT NULL, PRIMARY KEY (session, seq, kind)
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS keys (
    vkey TEXT PRIMARY KEY, retired INTEGER NOT NULL
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS witnesses (
    vkey TEXT PRIMARY KEY, size INTEGER NOT NULL, failures INTEGER NOT NULL,
    next_at INTEGER NOT NULL, cosigned_at INTEGER, error TEXT
  ) WITHOUT ROWID;
`;

/** A commit under way: it is durable before the checkpoint moves, and stays until all of it is published. */
const stagedSchema = z.object({
  /** The size of the tree that it goes on from. */
  base: z.int().min(0),
  /** The signed checkpoint of the tree with the entries. */
  note: z.string(),
  /** The entries' texts. */
  entries: z.array(z.string()).min(1),
  /** Keys that sign from here on, as vkeys. */
  vkeys: z.array(z.string()),
  /** Unix ms. */
  at: z.int(),
});
export type Staged = z.infer<typeof stagedSchema>;

/** The newest signed checkpoint, published or about to be. */
export type Head = { readonly size: number; readonly note: string };

export type LoadedLog = {
  readonly head: Head | null;
  readonly staged: Staged | null;
  /** Hashes of the unfinished tile of each level, of the published tree. */
  readonly edge: ReadonlyMap<number, Uint8Array>;
  /** The unfinished entry bundle of the published tree. */
  readonly tail: Uint8Array;
};

/** What is left once a commit is published. */
export type Finished = {
  readonly staged: Staged;
  readonly size: number;
  readonly edge: readonly Uint8Array[];
  readonly tail: Uint8Array;
};

export type KeyRow = { readonly vkey: string; readonly retired: boolean };
export type LeafRow = { readonly kind: string; readonly seq: number; readonly index: number };
export type CheckpointRow = {
  readonly size: number;
  readonly note: string;
  readonly at: number;
  /** Time of the newest cosignature, Unix ms; 0 while there is none. */
  readonly cosignedAt: number;
  readonly witnessed: boolean;
};
export type WitnessRow = {
  readonly vkey: string;
  /** The size that it cosigned last, as far as is known. */
  readonly size: number;
  readonly failures: number;
  /** Not to be asked before, Unix ms. */
  readonly nextAt: number;
  readonly cosignedAt: number | null;
  readonly error: string | null;
};

type SqlStore = Pick<DurableObjectStorage, "sql" | "transactionSync" | "sync">;

export class LogStore implements KnownLeaves {
  readonly #storage: SqlStore;
  #begun = false;

  constructor(storage: SqlStore) {
    this.#storage = storage;
  }

  get #sql(): SqlStorage {
    return this.#storage.sql;
  }

  /** Whether the log has ever staged a commit. */
  get begun(): boolean {
    this.#begun ||=
      this.#sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'head'").toArray().length > 0;
    return this.#begun;
  }

  load(): LoadedLog {
    if (!this.begun) return { head: null, staged: null, edge: new Map(), tail: new Uint8Array(0) };
    const staged = this.#sql.exec<{ json: string }>("SELECT json FROM staged").toArray()[0];
    const edge = this.#sql
      .exec<{ level: number; bytes: ArrayBuffer }>("SELECT level, bytes FROM edge")
      .toArray();
    const tail = this.#sql.exec<{ bytes: ArrayBuffer }>("SELECT bytes FROM tail").toArray()[0];
    return {
      head: this.#head(),
      staged: staged === undefined ? null : stagedSchema.parse(JSON.parse(staged.json)),
      edge: new Map(edge.map(({ level, bytes }) => [level, new Uint8Array(bytes)])),
      tail: new Uint8Array(tail?.bytes ?? new ArrayBuffer(0)),
    };
  }

  // ── the steps of a commit ───────────────────────────────────────────────

  /** The staged copy: durable when this resolves. */
  async stage(staged: Staged): Promise<void> {
    this.#storage.transactionSync(() => {
      this.#sql.exec(TABLES);
      this.#sql.exec("INSERT INTO staged (id, json) VALUES (1, ?)", JSON.stringify(staged));
    });
    await this.#storage.sync();
  }

  /** Compare-and-swap of the checkpoint: false when it is not the one of size `base`. Durable when this resolves. */
  async swap(base: number, next: Head): Promise<boolean> {
    const swapped = this.#storage.transactionSync(() => {
      if ((this.#head()?.size ?? 0) !== base) return false;
      this.#sql.exec(
        `INSERT INTO head (id, size, note) VALUES (1, ?, ?)
         ON CONFLICT (id) DO UPDATE SET size = excluded.size, note = excluded.note`,
        next.size,
        next.note,
      );
      return true;
    });
    await this.#storage.sync();
    return swapped;
  }

  /** All that is known of a commit once the bucket has it; the staged copy goes. */
  async finish({ staged, size, edge, tail }: Finished): Promise<void> {
    this.#storage.transactionSync(() => {
      this.#sql.exec("DELETE FROM edge");
      for (const [level, bytes] of edge.entries()) {
        if (bytes.length > 0) {
          this.#sql.exec("INSERT INTO edge (level, bytes) VALUES (?, ?)", level, blob(bytes));
        }
      }
      this.#sql.exec("INSERT OR REPLACE INTO tail (id, bytes) VALUES (1, ?)", blob(tail));
      this.#addLeaves(staged);
      this.#sql.exec(
        "INSERT INTO checkpoints (size, note, at) VALUES (?, ?, ?)",
        size,
        staged.note,
        staged.at,
      );
      this.#saveKeys(staged.vkeys);
      this.#sql.exec("DELETE FROM staged");
    });
    await this.#storage.sync();
  }

  #saveKeys(active: readonly string[]): void {
    const known = this.keys().filter(({ retired }) => !retired);
    if (known.length === active.length && known.every(({ vkey }) => active.includes(vkey))) return;
    this.#sql.exec("UPDATE keys SET retired = 1");
    for (const vkey of active) {
      this.#sql.exec("INSERT OR REPLACE INTO keys (vkey, retired) VALUES (?, 0)", vkey);
    }
  }

  #addLeaves({ base, entries }: Staged): void {
    for (const [i, entry] of entries.entries()) {
      const leaf = parseLeaf(entry);
      if (leaf === null || leaf.kind === "key") continue;
      const { session, kind, seq } = leafKey(leaf);
      this.#sql.exec(
        "INSERT INTO leaves (session, seq, kind, idx, hash_chain) VALUES (?, ?, ?, ?, ?)",
        bytesOfHex(session),
        seq,
        kind,
        base + i,
        bytesOfHex(leaf.hash_chain),
      );
    }
  }

  #head(): Head | null {
    return this.#sql.exec<Head>("SELECT size, note FROM head").toArray()[0] ?? null;
  }

  // ── leaves ──────────────────────────────────────────────────────────────

  find({ session, kind, seq }: LeafKey): KnownLeaf | null {
    if (!this.begun) return null;
    return this.#known(
      "SELECT kind, seq, hash_chain FROM leaves WHERE session = ? AND seq = ? AND kind = ?",
      bytesOfHex(session),
      seq,
      kind,
    );
  }

  newest(session: string): KnownLeaf | null {
    if (!this.begun) return null;
    return this.#known(
      `SELECT kind, seq, hash_chain FROM leaves
       WHERE session = ? AND kind IN ('open', 'head', 'close') ORDER BY seq DESC, idx DESC LIMIT 1`,
      bytesOfHex(session),
    );
  }

  #known(query: string, ...bound: SqlStorageValue[]): KnownLeaf | null {
    const row = this.#sql
      .exec<{ kind: string; seq: number; hash_chain: ArrayBuffer }>(query, ...bound)
      .toArray()[0];
    if (row === undefined) return null;
    return { ...row, hash_chain: Buffer.from(row.hash_chain).toString("hex") };
  }

  /** A session's leaves, in the log's order. */
  leavesOf(session: string): LeafRow[] {
    if (!this.begun) return [];
    return this.#sql
      .exec<LeafRow>(
        'SELECT kind, seq, idx AS "index" FROM leaves WHERE session = ? ORDER BY idx',
        bytesOfHex(session),
      )
      .toArray();
  }

  // ── checkpoints ─────────────────────────────────────────────────────────

  /** The newest published checkpoint, or null. */
  latest(): CheckpointRow | null {
    return this.#checkpoint("ORDER BY size DESC LIMIT 1");
  }

  /** The published checkpoint of that size, or null. */
  checkpoint(size: number): CheckpointRow | null {
    return this.#checkpoint("WHERE size = ?", size);
  }

  /** The newest checkpoint that a quorum of witnesses has cosigned, or null. */
  witnessed(): CheckpointRow | null {
    return this.#checkpoint("WHERE witnessed = 1 ORDER BY size DESC LIMIT 1");
  }

  /** The last published checkpoint without the leaf of that index, or null. */
  before(index: number): CheckpointRow | null {
    return this.#checkpoint("WHERE size <= ? ORDER BY size DESC LIMIT 1", index);
  }

  /** The first published checkpoint with it, or null. */
  after(index: number): CheckpointRow | null {
    return this.#checkpoint("WHERE size > ? ORDER BY size LIMIT 1", index);
  }

  #checkpoint(where: string, ...bound: number[]): CheckpointRow | null {
    if (!this.begun) return null;
    const row = this.#sql
      .exec<{ size: number; note: string; at: number; cosignedAt: number; witnessed: number }>(
        `SELECT size, note, at, cosigned_at AS cosignedAt, witnessed FROM checkpoints ${where}`,
        ...bound,
      )
      .toArray()[0];
    return row === undefined ? null : { ...row, witnessed: row.witnessed === 1 };
  }

  /** Adds cosignature lines below a published checkpoint. */
  addCosignatures(size: number, lines: readonly string[], at: number, witnessed: boolean): void {
    this.#sql.exec(
      `UPDATE checkpoints SET note = note || ?, cosigned_at = max(cosigned_at, ?),
       witnessed = max(witnessed, ?) WHERE size = ?`,
      lines.join(""),
      at,
      witnessed ? 1 : 0,
      size,
    );
  }

  // ── keys and witnesses ──────────────────────────────────────────────────

  keys(): KeyRow[] {
    if (!this.begun) return [];
    return this.#sql
      .exec<{ vkey: string; retired: number }>("SELECT vkey, retired FROM keys")
      .toArray()
      .map(({ vkey, retired }) => ({ vkey, retired: retired === 1 }));
  }

  witness(vkey: string): WitnessRow {
    const row = this.begun
      ? this.#sql
          .exec<WitnessRow>(
            `SELECT vkey, size, failures, next_at AS nextAt, cosigned_at AS cosignedAt, error
             FROM witnesses WHERE vkey = ?`,
            vkey,
          )
          .toArray()[0]
      : undefined;
    return row ?? { vkey, size: 0, failures: 0, nextAt: 0, cosignedAt: null, error: null };
  }

  saveWitness(row: WitnessRow): void {
    this.#sql.exec(
      `INSERT OR REPLACE INTO witnesses (vkey, size, failures, next_at, cosigned_at, error)
       VALUES (?, ?, ?, ?, ?, ?)`,
      row.vkey,
      row.size,
      row.failures,
      row.nextAt,
      row.cosignedAt,
      row.error,
    );
  }
}

function bytesOfHex(hex: string): ArrayBuffer {
  return blob(Buffer.from(hex, "hex"));
}

/** A copy of exactly these bytes: a view's buffer may be larger than it. */
function blob(bytes: Uint8Array): ArrayBuffer {
  return Uint8Array.from(bytes).buffer;
}
