/**
 * @module
 * One round of asking the witnesses about the newest checkpoint, beside the
 * commits and never in their way. A witness that does not answer is asked
 * again with growing pauses.
 */
import { sha256Bytes as hash } from "../audit/hash-node.ts";
import type { AlarmBeside } from "../ops/alerts/alarm.ts";
import { logEvent } from "../ops/log.ts";
import { fullTile } from "./bucket.ts";
import { consistencyProof } from "./merkle.ts";
import { parseNote } from "./note.ts";
import type { CheckpointRow, LogStore, WitnessRow } from "./store.ts";
import { nodesOfTiles, TILE_WIDTH, tilePath, tilesForConsistency } from "./tiles.ts";
import { askWitness, type Witness, type WitnessAnswer } from "./witness-client.ts";
import { isQuorum, type WitnessPolicy } from "./witness-policy.ts";

const FIRST_PAUSE_MS = 1_000;
const MAX_PAUSE_MS = 5 * 60_000;

export type RoundDeps = {
  readonly store: LogStore;
  readonly bucket: R2Bucket;
  readonly witnesses: readonly Witness[];
  readonly policy: WitnessPolicy;
  readonly send: typeof fetch;
  readonly now: () => number;
  readonly alarm: AlarmBeside;
};

export type RoundResult = {
  /** The checkpoint that was asked about, where a cosignature came in. */
  readonly cosigned: CheckpointRow | null;
  /** When to ask again, Unix ms; null when every witness has cosigned the newest checkpoint. */
  readonly nextAt: number | null;
};

/** Asks every witness that has not cosigned the newest checkpoint and may be asked now. */
export async function witnessRound(deps: RoundDeps): Promise<RoundResult> {
  const { store, witnesses, now } = deps;
  const target = store.latest();
  if (target === null) return { cosigned: null, nextAt: null };
  const due = witnesses.filter(({ vkey }) => {
    const row = store.witness(vkey);
    return row.size !== target.size && row.nextAt <= now();
  });
  const lines = await Promise.all(due.map((witness) => askOne(deps, witness, target)));
  const came = lines.flatMap((line) => (line === null ? [] : [line]));
  if (came.length > 0) addLines(deps, target, came);
  const latest = store.latest() ?? target;
  const waiting = witnesses
    .map(({ vkey }) => store.witness(vkey))
    .filter(({ size }) => size !== latest.size);
  return {
    cosigned: came.length > 0 ? store.checkpoint(target.size) : null,
    nextAt: waiting.length === 0 ? null : Math.min(...waiting.map(({ nextAt }) => nextAt)),
  };
}

type Came = { readonly line: string; readonly time: number };

async function askOne(
  deps: RoundDeps,
  witness: Witness,
  target: CheckpointRow,
): Promise<Came | null> {
  const { store, bucket, send, now, alarm } = deps;
  const row = store.witness(witness.vkey);
  const note = parseNote(target.note);
  if (note === null) return null;
  const answer = await askWitness(
    witness,
    {
      size: target.size,
      note: target.note,
      text: note.text,
      madeAt: target.at,
      oldSize: row.size,
      proofFrom: (oldSize) => proofFrom(store, bucket, oldSize, target.size),
    },
    send,
    now,
  );
  store.saveWitness(nextRow(row, target, answer, now()));
  if (answer.kind === "cosigned") return answer;
  const about = { witness: witness.name, reason: answer.kind, size: target.size };
  if (answer.kind === "failed") {
    logEvent("warn", "log_not_witnessed", { ...about, error: answer.message });
  } else {
    alarm("log_not_witnessed", "A witness does not agree with the transparency log.", {
      ...about,
      witness_size: answer.kind === "ahead" ? answer.size : null,
    });
  }
  return null;
}

function nextRow(
  row: WitnessRow,
  target: CheckpointRow,
  answer: WitnessAnswer,
  now: number,
): WitnessRow {
  if (answer.kind === "cosigned") {
    const cosignedAt = answer.time * 1000;
    return { ...row, size: target.size, failures: 0, nextAt: 0, cosignedAt, error: null };
  }
  const failures = row.failures + 1;
  const pause = Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures - 1, 20));
  const error = answer.kind === "failed" ? answer.message : answer.kind;
  return { ...row, failures, nextAt: now + pause, error };
}

function addLines(
  { store, witnesses, policy }: RoundDeps,
  target: CheckpointRow,
  came: Came[],
): void {
  const known = parseNote(store.checkpoint(target.size)?.note ?? "")?.signatures ?? [];
  const fresh = came.filter(({ line }) => !known.some((signature) => signature.line === line));
  // One for each witness: its row says whether it has cosigned this size.
  const cosigned = new Set(
    witnesses.flatMap(({ name, vkey }) => (store.witness(vkey).size === target.size ? [name] : [])),
  );
  store.addCosignatures(
    target.size,
    fresh.map(({ line }) => line),
    Math.max(...came.map(({ time }) => time * 1000)),
    witnesses.length > 0 && isQuorum(policy, cosigned),
  );
}

/** The proof from an older size of this log, out of its tiles. */
async function proofFrom(
  store: LogStore,
  bucket: R2Bucket,
  oldSize: number,
  size: number,
): Promise<Uint8Array[]> {
  const { edge } = store.load();
  const tiles = new Map<string, Uint8Array>();
  for (const tile of tilesForConsistency(oldSize, size)) {
    // A tile that was partial at this size may have been completed since: the full one begins with the same hashes.
    const full = await fullTile(bucket, tilePath({ ...tile, width: TILE_WIDTH }));
    const bytes = full ?? edge.get(Number(tile.level));
    if (bytes !== undefined) tiles.set(`${tile.level}/${tile.index}`, bytes);
  }
  return consistencyProof(
    hash,
    nodesOfTiles(hash, (level, index) => tiles.get(`${level}/${index}`)),
    oldSize,
    size,
  );
}
