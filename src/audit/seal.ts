/**
 * @module
 * A session's keys, and the stored arguments sealed under them for write-once
 * storage. Locked objects cannot be erased; destroying the session's key makes
 * what they hold unreadable instead.
 *
 * Runs in Workers and Node (`node:crypto`), synchronously.
 */
import { NONCE_BYTES, openBytes, purposeKey, sealBytes } from "../crypto/aead.ts";
import { hmacSha256 } from "./hash-node.ts";
import { isJsonObject, type JsonValue } from "./json.ts";
import { composeLine, parseCanonical, type StoredRecord } from "./record.ts";

const KEY_BYTES = 32;

/** The key of a session's `args_hash` and `result_hash`: HMAC-SHA-256(session key, "hash"). */
export function deriveHashKey(sessionKey: Uint8Array): Uint8Array {
  return hmacSha256(sessionKey, "hash");
}

/** The key of a session's sealed arguments: HMAC-SHA-256(session key, "seal"). */
export function deriveSealKey(sessionKey: Uint8Array): Uint8Array {
  return hmacSha256(sessionKey, "seal");
}

/**
 * Wraps a session's key (32 bytes) for storage: base64 of nonce, ciphertext and
 * tag, AES-256-GCM with a random nonce under a key derived from `SECRETS_KEY`.
 * The session id is authenticated with it, so that one session's key cannot be
 * put in the place of another's.
 *
 * @throws RangeError for a session key of another length.
 */
export function wrapSessionKey(
  secretsKey: Uint8Array,
  sessionKey: Uint8Array,
  sessionId: string,
): string {
  if (sessionKey.length !== KEY_BYTES) throw new RangeError("A session key has 32 bytes");
  return sealBytes(wrappingKey(secretsKey), sessionKey, sessionId);
}

/**
 * The session key that {@link wrapSessionKey} wrapped.
 *
 * @throws Error when it was wrapped under another key or for another session, or was changed.
 */
export function unwrapSessionKey(
  secretsKey: Uint8Array,
  wrapped: string,
  sessionId: string,
): Uint8Array {
  return openBytes(wrappingKey(secretsKey), wrapped, sessionId);
}

/** A key of its own for this use: `SECRETS_KEY` serves others too. */
function wrappingKey(secretsKey: Uint8Array): Uint8Array {
  return purposeKey(secretsKey, "session-key");
}

/**
 * Seals a record's stored arguments and salt: base64 of nonce, ciphertext and
 * tag of the RFC 8785 form of `{"args", "salt"}`. The nonce is the first 12
 * bytes of HMAC-SHA-256(seal key, hash_chain as hex text), so that a retry gives the same
 * bytes.
 *
 * A nonce must never serve two texts. It does not, as long as what a record
 * stores changes in one way only, by erasure, and erasure destroys the key.
 */
export function sealArgs(sealKey: Uint8Array, stored: StoredRecord): string {
  const nonce = hmacSha256(sealKey, stored.hash_chain).subarray(0, NONCE_BYTES);
  const salt = stored.salt === null ? "null" : `"${stored.salt}"`;
  const text = `{"args":${stored.args ?? "null"},"salt":${salt}}`;
  return sealBytes(sealKey, new TextEncoder().encode(text), "", nonce);
}

/**
 * What {@link sealArgs} sealed.
 *
 * @throws Error for loose base64, another key, or bytes that were changed.
 */
export function openSealed(
  sealKey: Uint8Array,
  sealed: string,
): { args: JsonValue; salt: string | null } {
  const text = new TextDecoder().decode(openBytes(sealKey, sealed, ""));
  const parsed = parseCanonical(text);
  if (parsed.ok && parsed.canonical && isJsonObject(parsed.value)) {
    const { args, salt, ...others } = parsed.value;
    if (
      args !== undefined &&
      (salt === null || typeof salt === "string") &&
      Object.keys(others).length === 0
    ) {
      return { args, salt };
    }
  }
  throw new Error("The sealed text is not {args, salt} in RFC 8785 form");
}

/**
 * A record's line in an R2 segment, in RFC 8785 form: the export line without
 * `args` and `salt`, with `sealed` instead.
 */
export function segmentLine(sealKey: Uint8Array, stored: StoredRecord): string {
  return composeLine(stored, `"sealed":"${sealArgs(sealKey, stored)}"`);
}
