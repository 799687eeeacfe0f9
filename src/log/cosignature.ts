/**
 * @module
 * Cosignatures of witnesses (C2SP tlog-cosignature, Ed25519): a signature, type
 * 0x04, that says when. It is over a header, the time and the checkpoint's text.
 */
import { concatBytes } from "./bytes.ts";
import { ED25519_SIGNATURE_BYTES, type Ed25519Key, verifyEd25519 } from "./ed25519.ts";
import {
  COSIGNATURE,
  type NoteSignature,
  type NoteVerifier,
  signatureLine,
  type VerifierKey,
  verifierKey,
} from "./note.ts";

const TIME_BYTES = 8;

/**
 * Seconds that honest times of one moment may differ by: clocks do, a cosignature is of
 * whole seconds, and a witness signs a checkpoint some time after it was made.
 */
export const TIME_TOLERANCE_SECONDS = 60;

/** What a witness signs. `seconds` is a POSIX time. */
export function cosignedMessage(seconds: number, checkpointText: string): Uint8Array {
  return new TextEncoder().encode(`cosignature/v1\ntime ${seconds}\n${checkpointText}`);
}

/** The witness key of a name, as others are given it. */
export function witnessKey(name: string, publicKey: Uint8Array): VerifierKey {
  return verifierKey(name, COSIGNATURE, publicKey);
}

/** The signature line of a witness under a checkpoint's text, with its line feed. */
export async function cosign(
  name: string,
  key: Ed25519Key,
  seconds: number,
  checkpointText: string,
): Promise<string> {
  const time = new Uint8Array(TIME_BYTES);
  new DataView(time.buffer).setBigUint64(0, BigInt(seconds));
  const signature = await key.sign(cosignedMessage(seconds, checkpointText));
  return signatureLine(witnessKey(name, key.publicKey), concatBytes(time, signature));
}

/** The POSIX time in seconds that a cosignature carries, or null when it is not one. */
export function cosignatureTime(signature: Pick<NoteSignature, "bytes">): number | null {
  const { bytes } = signature;
  if (bytes.length !== TIME_BYTES + ED25519_SIGNATURE_BYTES) return null;
  const seconds = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0);
  return seconds > BigInt(Number.MAX_SAFE_INTEGER) ? null : Number(seconds);
}

/** Verifies signatures of type 0x04. */
export function cosignatureVerifier(key: VerifierKey): NoteVerifier {
  return {
    key,
    verify: async (text, bytes) => {
      const seconds = cosignatureTime({ bytes });
      if (seconds === null) return false;
      const message = cosignedMessage(seconds, text);
      return verifyEd25519(key.publicKey, bytes.slice(TIME_BYTES), message);
    },
  };
}
