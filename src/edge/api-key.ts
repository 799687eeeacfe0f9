/**
 * @module
 * API keys: `ag_<key id>_<secret>`. Only a digest is ever stored.
 */
import { timingSafeEqual } from "node:crypto";
import { sha256Hex } from "../audit/hash-node.ts";

const ID_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz";
const SECRET_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_LENGTH = 16;
/** 43 characters of 62: 256 bits. */
const SECRET_LENGTH = 43;
/** How every key begins. */
export const KEY_PREFIX = "ag_";
const KEY_FORM = /^ag_([0-9a-z]{16})_[0-9A-Za-z]{43}$/;

export type MintedKey = { readonly id: string; readonly key: string; readonly digest: string };

/** Mints a key from the platform's randomness. */
export function mintKey(): MintedKey {
  const id = randomText(ID_ALPHABET, ID_LENGTH);
  const key = `${KEY_PREFIX}${id}_${randomText(SECRET_ALPHABET, SECRET_LENGTH)}`;
  return { id, key, digest: sha256Hex(key) };
}

/** The id in a key, or null when it has not the form of one. */
export function keyIdOf(key: string): string | null {
  return KEY_FORM.exec(key)?.[1] ?? null;
}

/** Compares two digests of the same kind in constant time. */
export function digestsEqual(a: string, b: string): boolean {
  const left = Buffer.from(a, "utf8");
  const right = Buffer.from(b, "utf8");
  return left.byteLength === right.byteLength && timingSafeEqual(left, right);
}

/** Draws without bias: bytes past the last whole multiple of the alphabet are thrown away. */
function randomText(alphabet: string, length: number): string {
  const limit = 256 - (256 % alphabet.length);
  let text = "";
  while (text.length < length) {
    for (const byte of crypto.getRandomValues(new Uint8Array(length))) {
      if (byte < limit && text.length < length) text += alphabet[byte % alphabet.length];
    }
  }
  return text;
}
