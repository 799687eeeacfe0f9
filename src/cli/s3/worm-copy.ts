/**
 * @module
 * The copy of all that is written once into a store with Object Lock. It can be
 * stopped and started again: what is there with the same bytes is left alone,
 * and every object is read back before it counts.
 */
import type { ObjectSource } from "./object-source.ts";
import { type Lock, S3Error, type S3Store } from "./s3-store.ts";
import { WORM_PREFIXES } from "./worm-prefixes.ts";

export type Copied = {
  readonly uploaded: number;
  readonly present: number;
  readonly bytes: number;
};

/** @throws S3Error when an object is there with other bytes, or is not locked. */
export async function wormCopy(
  source: ObjectSource,
  target: S3Store,
  prefix: string,
  lock: Lock,
  progress: (copied: Copied) => void,
): Promise<Copied> {
  let copied: Copied = { uploaded: 0, present: 0, bytes: 0 };
  for (const wormPrefix of WORM_PREFIXES) {
    for await (const key of source.keys(wormPrefix)) {
      const bytes = await source.get(key);
      const isNew = await copyOne(target, prefix + key, bytes, lock);
      copied = {
        uploaded: copied.uploaded + (isNew ? 1 : 0),
        present: copied.present + (isNew ? 0 : 1),
        bytes: copied.bytes + bytes.length,
      };
      progress(copied);
    }
  }
  return copied;
}

async function copyOne(
  target: S3Store,
  key: string,
  bytes: Uint8Array,
  lock: Lock,
): Promise<boolean> {
  if (await target.holds(key, bytes, lock)) return false;
  // Another copy may have been quicker: then that one is checked.
  const isNew = await target.putOnce(key, bytes, lock);
  if (!(await target.holds(key, bytes, lock))) {
    throw new S3Error(`${key} was stored and is not there`);
  }
  return isNew;
}
