/**
 * @module
 * Session ids: UUIDs of version 8 (RFC 9562) that carry their own proof of
 * origin, so that a forged id is refused before any object is reached (an
 * object that was merely asked leaves a file behind).
 *
 * Layout: 48 bits Unix time in ms, random bits, and in the last 40 bits a
 * truncated HMAC of all that stands before them.
 */

import type { Sha256Hex } from "../audit/hash.ts";
import { hmacSha256 } from "../audit/hash-node.ts";

const DAY_MS = 86_400_000;
const MAC_AT = 11;
const UUID_V8 = /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** When an ambient session closes, after the end of its day: late records of the day still find it. */
const AMBIENT_GRACE_MS = 3_600_000;

function toUuid(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

function stamp(bytes: Uint8Array, unixMs: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  view.setUint32(0, Math.floor(unixMs / 0x10000));
  view.setUint16(4, unixMs % 0x10000);
}

function markVersion8(bytes: Uint8Array): void {
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
}

/** Mints an id for a session that opens at `nowMs` under the deployment's `sessionIdKey`; `random` gives at least 5 unpredictable bytes. */
export function mintSessionId(key: Uint8Array, nowMs: number, random: Uint8Array): string {
  const bytes = new Uint8Array(16);
  stamp(bytes, nowMs);
  bytes.set(random.subarray(0, MAC_AT - 6), 6);
  markVersion8(bytes);
  bytes.set(hmacSha256(key, bytes.subarray(0, MAC_AT)).subarray(0, 16 - MAC_AT), MAC_AT);
  return toUuid(bytes);
}

/** Mints an id with the platform's randomness. */
export function newSessionId(key: Uint8Array, nowMs: number): string {
  return mintSessionId(key, nowMs, crypto.getRandomValues(new Uint8Array(MAC_AT - 6)));
}

/** Whether this deployment minted the id. Anything else never reaches an object. */
export function isMintedSessionId(key: Uint8Array, id: string): boolean {
  if (!UUID_V8.test(id)) return false;
  const bytes = Buffer.from(id.replaceAll("-", ""), "hex");
  const mac = hmacSha256(key, bytes.subarray(0, MAC_AT));
  let difference = 0;
  for (let i = MAC_AT; i < 16; i++) difference |= (bytes[i] ?? 0) ^ (mac[i - MAC_AT] ?? 0);
  return difference === 0;
}

/** The session on which a principal's calls without a handle are recorded: one a UTC day. */
export function ambientSessionId(
  hash: Sha256Hex,
  owner: { tenant: string; principal: string },
  nowMs: number,
): string {
  const midnight = nowMs - (nowMs % DAY_MS);
  const day = new Date(midnight).toISOString().slice(0, 10);
  const digest = hash(`atlas-gate/ambient/v1\n${owner.tenant}\n${owner.principal}\n${day}\n`);
  const bytes = new Uint8Array(16);
  stamp(bytes, midnight);
  bytes.set(Buffer.from(digest.slice(0, 20), "hex"), 6);
  markVersion8(bytes);
  return toUuid(bytes);
}

/** When an id was made: its first 48 bits, Unix ms. */
export function mintedAtMs(id: string): number {
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
}

/** An id that no session made at this time or later is less than, and each made before is. */
export function firstIdAt(unixMs: number): string {
  const bytes = new Uint8Array(16);
  stamp(bytes, unixMs);
  return toUuid(bytes);
}

/** Whether an id has the form of an ambient session's: version 8, at a UTC midnight. */
export function looksAmbient(id: string): boolean {
  if (!UUID_V8.test(id)) return false;
  return mintedAtMs(id) % DAY_MS === 0;
}

/** How long after its minting an ambient session closes, in ms: at 01:00 UTC of the next day. */
export const AMBIENT_LIFE_MS = DAY_MS + AMBIENT_GRACE_MS;

/** When the ambient session of the day of `nowMs` closes: 01:00 UTC of the next day, Unix ms. */
export function ambientCloseMs(nowMs: number): number {
  return nowMs - (nowMs % DAY_MS) + AMBIENT_LIFE_MS;
}
