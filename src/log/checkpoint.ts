/**
 * @module
 * Checkpoints (C2SP tlog-checkpoint): the head of a log as the text of a note.
 */
import { decodeBase64, encodeBase64, parseDecimal } from "./bytes.ts";
import { HASH_BYTES } from "./merkle.ts";
import {
  type KnownSignature,
  type NoteVerifier,
  noteVerifier,
  parseNote,
  type VerifierKey,
  verifyNote,
} from "./note.ts";

export type Checkpoint = {
  readonly origin: string;
  readonly size: number;
  readonly root: Uint8Array;
  /** Lines after the third. This gateway's log writes none. */
  readonly extensions: readonly string[];
};

/** `<origin>\n<size>\n<base64 root>\n`, and the extension lines if there are any. */
export function formatCheckpoint(checkpoint: Omit<Checkpoint, "extensions">): string {
  return `${checkpoint.origin}\n${checkpoint.size}\n${encodeBase64(checkpoint.root)}\n`;
}

/** The checkpoint that a note's text is, or null. */
export function parseCheckpoint(text: string): Checkpoint | null {
  if (!text.endsWith("\n")) return null;
  const [origin = "", sizeText = "", rootText = "", ...extensions] = text.slice(0, -1).split("\n");
  const size = parseDecimal(sizeText);
  const root = decodeBase64(rootText);
  if (origin === "" || size === null || root?.length !== HASH_BYTES) return null;
  if (extensions.includes("")) return null;
  return { origin, size, root, extensions };
}

/** The checkpoint of a signed note, nothing verified. For what one wrote oneself. */
export function checkpointOf(note: string): Checkpoint | null {
  const parsed = parseNote(note);
  return parsed === null ? null : parseCheckpoint(parsed.text);
}

export type OpenedCheckpoint =
  | {
      readonly ok: true;
      readonly checkpoint: Checkpoint;
      /** The note's text, which cosignatures are over. */
      readonly text: string;
      readonly known: readonly KnownSignature[];
    }
  | {
      readonly ok: false;
      readonly reason: "malformed" | "no_known_signature" | "bad_signature" | "other_origin";
    };

/**
 * Opens a signed checkpoint: one of the log's keys has signed it, and its origin
 * is the name of that key. `others` may verify too, but cannot stand in for the log.
 */
export async function openCheckpoint(
  note: string,
  logKeys: readonly VerifierKey[],
  others: readonly NoteVerifier[] = [],
): Promise<OpenedCheckpoint> {
  const verified = await verifyNote(note, [...logKeys.map(noteVerifier), ...others]);
  if (!verified.ok) return verified;
  const checkpoint = parseCheckpoint(verified.text);
  if (checkpoint === null) return { ok: false, reason: "malformed" };
  const byLog = verified.known.filter(({ key }) => logKeys.includes(key));
  if (byLog.length === 0) return { ok: false, reason: "no_known_signature" };
  if (byLog.some(({ key }) => key.name !== checkpoint.origin)) {
    return { ok: false, reason: "other_origin" };
  }
  return { ok: true, checkpoint, text: verified.text, known: verified.known };
}
