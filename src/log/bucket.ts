/**
 * @module
 * The log's part of the bucket. Full tiles and the copies of checkpoints are
 * written once, so that a bucket lock can hold them; `log/checkpoint` alone is
 * ever replaced.
 */
import { equalBytes, parseDecimal } from "./bytes.ts";
import { LogRefused } from "./refusal.ts";

const PREFIX = "log/";
const CHECKPOINT = `${PREFIX}checkpoint`;
const COPIES = `${PREFIX}checkpoints/`;
/** Decimal digits of 2^64: names sort as their sizes do. */
const SIZE_DIGITS = 20;
/** Media type of checkpoints. */
export const TEXT = "text/plain; charset=utf-8";

export type LogBucket = {
  /** The published checkpoint, or null. */
  checkpoint(): Promise<string | null>;
  /** The copy of the checkpoint of that size, as it was first published, or null. */
  copy(size: number): Promise<string | null>;
  /** The smallest size above this one of which there is a copy, or null. @throws LogRefused for what is no copy's name */
  copyAfter(size: number): Promise<number | null>;
  /** Writes what must never change. `conflict`: it is there already, with other bytes. */
  putOnce(name: string, bytes: Uint8Array, contentType?: string): Promise<"stored" | "conflict">;
  putCheckpoint(note: string): Promise<void>;
};

/** The name of a checkpoint's copy, below the log's prefix. */
export function copyName(size: number): string {
  return `checkpoints/${String(size).padStart(SIZE_DIGITS, "0")}`;
}

/** The copy with the cosignatures of a quorum, beside the one without: that one cannot be replaced. */
export function witnessedCopyName(size: number): string {
  return `${copyName(size)}.witnessed`;
}

/** Throws whatever R2 throws when it does not answer; every call may be repeated. */
export function logBucket(bucket: R2Bucket): LogBucket {
  const text = async (key: string) => (await bucket.get(key))?.text() ?? null;
  return {
    checkpoint: () => text(CHECKPOINT),
    copy: (size) => text(PREFIX + copyName(size)),
    copyAfter: async (size) => {
      // A character behind all that a copy of this size may be called.
      const startAfter = `${PREFIX + copyName(size)}~`;
      const { objects } = await bucket.list({ prefix: COPIES, startAfter, limit: 1 });
      const [next] = objects;
      if (next === undefined) return null;
      const digits = next.key.slice(COPIES.length, COPIES.length + SIZE_DIGITS);
      const found = parseDecimal(digits.replace(/^0+(?=\d)/, ""));
      // Passed over, it could be one put there to hide the copies behind it.
      if (found === null) throw new LogRefused("bucket_unreadable", `${next.key} is no copy`);
      return found;
    },
    putOnce: async (name, bytes, contentType = "application/octet-stream") => {
      const put = await bucket.put(PREFIX + name, bytes, {
        onlyIf: { etagDoesNotMatch: "*" },
        httpMetadata: { contentType },
      });
      if (put !== null) return "stored";
      const there = await bucket.get(PREFIX + name);
      if (there === null) throw new Error(`the object ${name} was refused and is not there`);
      return equalBytes(new Uint8Array(await there.arrayBuffer()), bytes) ? "stored" : "conflict";
    },
    putCheckpoint: async (note) => {
      await bucket.put(CHECKPOINT, note, { httpMetadata: { contentType: TEXT } });
    },
  };
}

/** The bytes of a full tile or bundle, or null where there is none yet. */
export async function fullTile(bucket: R2Bucket, path: string): Promise<Uint8Array | null> {
  const object = await bucket.get(PREFIX + path);
  return object === null ? null : new Uint8Array(await object.arrayBuffer());
}
