/**
 * @module
 * The id of a principal's ambient session, computed as its definition says.
 */
import { createHash } from "node:crypto";

const DAY_MS = 86_400_000;

/** `principal` as in records: `key:<id of the first key of its line>`. */
export function ambientId(tenant: string, principal: string, now = Date.now()): string {
  const midnight = now - (now % DAY_MS);
  const day = new Date(midnight).toISOString().slice(0, 10);
  const name = `atlas-gate/ambient/v1\n${tenant}\n${principal}\n${day}\n`;
  const time = midnight.toString(16).padStart(12, "0");
  const hash = createHash("sha256").update(name, "utf8").digest().subarray(0, 10);
  const bytes = Buffer.concat([Buffer.from(time, "hex"), hash]);
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x80, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** The principal behind a key that was never rotated. */
export function principalOf(key: string): string {
  return `key:${key.split("_")[1]}`;
}
