/**
 * @module
 * The keys of a deployment's log and of the witness that it is for others.
 */
import { type Ed25519Key, importSeed } from "./ed25519.ts";
import { type NoteSigner, noteSigner } from "./note.ts";

/** Binds the derived key to its use: a cosignature must never pass for a signature of the log. */
const WITNESS_PURPOSE = "atlas-gate/witness/v1";
const SEED_BITS = 256;

/** The signers of a log, one for each configured seed, the current one first. */
export async function logSigners(
  origin: string,
  seeds: readonly Uint8Array[],
): Promise<NoteSigner[]> {
  const keys = await Promise.all(seeds.map(importSeed));
  return keys.map((key) => noteSigner(origin, key));
}

/** The witness key of a deployment: HKDF-SHA-256 (RFC 5869) from the log's seed, without salt. */
export async function witnessKeyOf(seed: Uint8Array): Promise<Ed25519Key> {
  const input = await crypto.subtle.importKey("raw", Uint8Array.from(seed), "HKDF", false, [
    "deriveBits",
  ]);
  const bits = await crypto.subtle.deriveBits(
    {
      name: "HKDF",
      hash: "SHA-256",
      salt: new Uint8Array(0),
      info: new TextEncoder().encode(WITNESS_PURPOSE),
    },
    input,
    SEED_BITS,
  );
  return importSeed(new Uint8Array(bits));
}

/** The witness's name beside the log's: `gate.example/log` → `gate.example/witness`. */
export function witnessName(origin: string): string {
  return `${origin.replace(/\/log$/, "")}/witness`;
}
