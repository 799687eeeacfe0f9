/**
 * @module
 * This gateway as a witness of one log: what it has cosigned last. Checking a
 * request against that and storing the new checkpoint is one synchronous step,
 * so that no two requests can turn the log back between them. It outlives the
 * log's registration: a log that is registered again goes on where it stood.
 */
import { DurableObject } from "cloudflare:workers";
import { sha256Bytes as hash } from "../audit/hash-node.ts";
import { requireConfig } from "../config.ts";
import { soundAlarm } from "../ops/alerts/alarm.ts";
import { logEvent } from "../ops/log.ts";
import { decodeBase64, encodeBase64, equalBytes } from "./bytes.ts";
import { type Checkpoint, openCheckpoint } from "./checkpoint.ts";
import { cosign } from "./cosignature.ts";
import { witnessKeyOf, witnessName } from "./keys.ts";
import { emptyRoot, verifyConsistency } from "./merkle.ts";
import { parseVkey } from "./note.ts";
import type { AddCheckpoint } from "./witness-request.ts";

const TABLE = `CREATE TABLE IF NOT EXISTS cosigned (
  id INTEGER PRIMARY KEY CHECK (id = 1), size INTEGER NOT NULL, root TEXT NOT NULL, note TEXT NOT NULL
)`;

/** The answer of the witness protocol, before it is put as HTTP. */
export type WitnessVerdict =
  | { readonly kind: "cosigned"; readonly lines: string }
  | { readonly kind: "malformed" }
  | { readonly kind: "untrusted" }
  | { readonly kind: "old_size_above" }
  | { readonly kind: "conflict"; readonly size: number }
  | { readonly kind: "bad_proof" };

export class WitnessObject extends DurableObject<Env> {
  /** `vkeys` are the log's keys as they are registered now. */
  async addCheckpoint(
    request: AddCheckpoint,
    origin: string,
    vkeys: readonly string[],
  ): Promise<WitnessVerdict> {
    const keys = vkeys.flatMap((vkey) => parseVkey(vkey) ?? []);
    const opened = await openCheckpoint(request.note, keys);
    if (!opened.ok) return { kind: opened.reason === "malformed" ? "malformed" : "untrusted" };
    const { checkpoint, text } = opened;
    if (checkpoint.origin !== origin) return { kind: "untrusted" };
    if (request.oldSize > checkpoint.size) return { kind: "old_size_above" };
    const refusal = this.#advance(request, checkpoint);
    if (refusal !== null) return refusal;
    const { logOrigin, logSeeds } = requireConfig(this.env);
    const seconds = Math.floor(Date.now() / 1000);
    const lines = await Promise.all(
      logSeeds.map(async (seed) =>
        cosign(witnessName(logOrigin), await witnessKeyOf(seed), seconds, text),
      ),
    );
    return { kind: "cosigned", lines: lines.join("") };
  }

  /** Checks the way from the last checkpoint and stores the new one, with nothing awaited in between. */
  #advance(
    { oldSize, proof, note }: AddCheckpoint,
    { origin, size, root }: Checkpoint,
  ): WitnessVerdict | null {
    const last = this.#last();
    if (oldSize !== last.size) return { kind: "conflict", size: last.size };
    if (size === last.size && last.size > 0 && !equalBytes(root, last.root)) {
      const summary = "A log that this gateway witnesses has signed two trees of one size.";
      this.ctx.waitUntil(soundAlarm(this.env, "witnessed_log_forked", summary, { origin, size }));
      return { kind: "conflict", size: last.size };
    }
    if (!verifyConsistency(hash, last.size, size, proof, last.root, root)) {
      logEvent("alarm", "witnessed_log_inconsistent", { origin, size, old_size: last.size });
      return { kind: "bad_proof" };
    }
    this.ctx.storage.sql.exec(TABLE);
    this.ctx.storage.sql.exec(
      "INSERT OR REPLACE INTO cosigned (id, size, root, note) VALUES (1, ?, ?, ?)",
      size,
      encodeBase64(root),
      note,
    );
    return null;
  }

  /** The checkpoint that was cosigned last; the empty tree if none was. */
  #last(): { size: number; root: Uint8Array } {
    const { sql } = this.ctx.storage;
    const begun = sql.exec("SELECT 1 FROM sqlite_master WHERE name = 'cosigned'").toArray();
    const row =
      begun.length === 0
        ? undefined
        : sql.exec<{ size: number; root: string }>("SELECT size, root FROM cosigned").toArray()[0];
    const root = row === undefined ? null : decodeBase64(row.root);
    return row === undefined || root === null
      ? { size: 0, root: emptyRoot(hash) }
      : { size: row.size, root };
  }

  /** The size that was cosigned last, 0 if none was. */
  size(): number {
    return this.#last().size;
  }
}
