/**
 * @module
 * SHA-256 and HMAC by `node:crypto`, which is synchronous. The append is one
 * synchronous step: an `await` on `crypto.subtle` between reading the head and
 * storing the record would fork the chain under concurrency.
 */
import { createHmac, hash } from "node:crypto";
import type { Sha256, Sha256Hex } from "./hash.ts";

/** Lowercase hex SHA-256. A string is hashed as UTF-8. */
export const sha256Hex: Sha256Hex = (data) => hash("sha256", data, "hex");

/** SHA-256, 32 bytes. A string is hashed as UTF-8. */
export const sha256Bytes: Sha256 = (data) => new Uint8Array(hash("sha256", data, "buffer"));

/** HMAC-SHA-256 (RFC 2104), 32 bytes. A string is taken as UTF-8. */
export function hmacSha256(key: Uint8Array, data: string | Uint8Array): Uint8Array {
  return new Uint8Array(createHmac("sha256", key).update(data).digest());
}

/** Lowercase hex of {@link hmacSha256}. */
export function hmacSha256Hex(key: Uint8Array, data: string | Uint8Array): string {
  return createHmac("sha256", key).update(data).digest("hex");
}
