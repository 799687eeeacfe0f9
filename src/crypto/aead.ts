/**
 * @module
 * Authenticated encryption, AES-256-GCM (NIST SP 800-38D): one implementation
 * for everything that the gateway seals. What it writes is base64 of nonce,
 * ciphertext and tag, and only that one text opens again.
 *
 * Runs in Workers and Node (`node:crypto`), synchronously.
 */
import { createCipheriv, createDecipheriv, createHmac, randomBytes } from "node:crypto";

const CIPHER = "aes-256-gcm";
const TAG_BYTES = 16;
export const NONCE_BYTES = 12;

/** The key of one use of `SECRETS_KEY`: HMAC-SHA-256(secret, "atlas-gate/<purpose>/v1"). */
export function purposeKey(secretsKey: Uint8Array, purpose: string): Uint8Array {
  return new Uint8Array(
    createHmac("sha256", secretsKey).update(`atlas-gate/${purpose}/v1`).digest(),
  );
}

/**
 * Seals a text for a purpose, under a random nonce. `aad` says what it belongs
 * to and is authenticated with it, so that it cannot be put in another place.
 */
export function sealText(
  secretsKey: Uint8Array,
  purpose: string,
  text: string,
  aad: string,
): string {
  return sealBytes(purposeKey(secretsKey, purpose), new TextEncoder().encode(text), aad);
}

/**
 * What {@link sealText} sealed.
 *
 * @throws Error when it was sealed under another key, for another purpose or place, or was changed.
 */
export function openText(
  secretsKey: Uint8Array,
  purpose: string,
  sealed: string,
  aad: string,
): string {
  const plain = openBytes(purposeKey(secretsKey, purpose), sealed, aad);
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(plain);
}

/**
 * Seals bytes under a key of 32 bytes. A nonce must never serve two plain
 * texts; leave it out for a random one.
 */
export function sealBytes(
  key: Uint8Array,
  plain: Uint8Array,
  aad: string,
  nonce: Uint8Array = randomBytes(NONCE_BYTES),
): string {
  const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(new TextEncoder().encode(aad));
  const body = [cipher.update(plain), cipher.final()];
  return Buffer.concat([nonce, ...body, cipher.getAuthTag()]).toString("base64");
}

/**
 * What {@link sealBytes} sealed.
 *
 * @throws Error for loose base64, another key or `aad`, or bytes that were changed.
 */
export function openBytes(key: Uint8Array, sealed: string, aad: string): Uint8Array {
  const bytes = Buffer.from(sealed, "base64");
  // Buffer skips what is not base64; only the one exact text of these bytes is taken.
  if (bytes.toString("base64") !== sealed) throw new Error("Loose base64");
  if (bytes.length < NONCE_BYTES + TAG_BYTES) throw new Error("Too short to be sealed");
  const decipher = createDecipheriv(CIPHER, key, bytes.subarray(0, NONCE_BYTES), {
    authTagLength: TAG_BYTES,
  });
  decipher.setAAD(new TextEncoder().encode(aad));
  decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
  const plain = decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES));
  return new Uint8Array(Buffer.concat([plain, decipher.final()]));
}
