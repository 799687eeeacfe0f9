/**
 * @module
 * A text that somebody outside chose, as it may stand in what is kept for
 * operators: one line, without a credential, of so many bytes at most. Pure.
 */
import { withoutCredential } from "../audit/redact.ts";

/**
 * The text without control characters and lone surrogates, cut at a character
 * so that its UTF-8 has at most `maxBytes`. Credentials are looked for before
 * the cut: what is left of one that was cut in two looks like none.
 */
export function callerText(text: string, maxBytes: number): string {
  return cutToBytes(
    withoutCredential(text.toWellFormed().replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, " ")),
    maxBytes,
  );
}

/** The longest beginning of a text whose UTF-8 has at most `maxBytes`. */
export function cutToBytes(text: string, maxBytes: number): string {
  // One character has at least one byte: nothing past that many can be part of it.
  const start = text.slice(0, maxBytes);
  const { read } = new TextEncoder().encodeInto(start, new Uint8Array(maxBytes));
  // Of a pair that the first cut left half, the half does not count either.
  return start.slice(0, read).replace(/[\uD800-\uDBFF]$/u, "");
}
