/**
 * @module
 * Entry bundles (C2SP tlog-tiles): up to 256 entries, each after its length as
 * a big-endian u16.
 */
import { concatBytes } from "./bytes.ts";
import { TILE_WIDTH } from "./tiles.ts";

/** What the length field can say. */
export const MAX_ENTRY_BYTES = 0xffff;

const LENGTH_BYTES = 2;

/** @throws RangeError for an entry over {@link MAX_ENTRY_BYTES}, and for more than 256. */
export function encodeEntries(entries: readonly Uint8Array[]): Uint8Array {
  if (entries.length > TILE_WIDTH) throw new RangeError("a bundle holds at most 256 entries");
  return concatBytes(
    ...entries.flatMap((entry) => {
      if (entry.length > MAX_ENTRY_BYTES) throw new RangeError("an entry is over 65,535 bytes");
      return [Uint8Array.of(entry.length >> 8, entry.length & 0xff), entry];
    }),
  );
}

/** The entries of a bundle, or null when its bytes end within one or hold more than 256. */
export function decodeEntries(bytes: Uint8Array): Uint8Array[] | null {
  const entries: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const [high, low] = [bytes[at], bytes[at + 1]];
    if (high === undefined || low === undefined || entries.length === TILE_WIDTH) return null;
    const start = at + LENGTH_BYTES;
    at = start + high * 256 + low;
    if (at > bytes.length) return null;
    entries.push(bytes.slice(start, at));
  }
  return entries;
}
