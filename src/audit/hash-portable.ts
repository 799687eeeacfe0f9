/**
 * @module
 * SHA-256 without a platform: the same bytes in a Worker, in Node and in a
 * browser. For verification, not for the append path.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import type { Sha256, Sha256Hex } from "./hash.ts";

/** SHA-256 (FIPS 180-4), 32 bytes. A string is hashed as UTF-8. */
export const sha256Bytes: Sha256 = (data) =>
  sha256(typeof data === "string" ? utf8ToBytes(data) : data);

/** Lowercase hex SHA-256. A string is hashed as UTF-8. */
export const sha256Hex: Sha256Hex = (data) => bytesToHex(sha256Bytes(data));
