/**
 * @module
 * Signed notes (C2SP signed-note): a text, a blank line, and one line for each
 * signature. Signatures of unknown keys are passed over, so that a log can
 * change its key and witnesses can add theirs.
 */
import { sha256Bytes } from "../audit/hash-portable.ts";
import { concatBytes, decodeBase64, encodeBase64, equalBytes, toHex } from "./bytes.ts";
import { ED25519_KEY_BYTES, type Ed25519Key, verifyEd25519 } from "./ed25519.ts";

/** Signature types that are spoken here. */
export const ED25519 = 0x01;
export const COSIGNATURE = 0x04;
export type KeyType = typeof ED25519 | typeof COSIGNATURE;

const KEY_ID_BYTES = 4;
/** Far above the 16 that every reader must accept; a bound on work. */
const MAX_SIGNATURES = 100;
/** Characters: room for those signatures and a text, and a bound on what is read. */
const MAX_NOTE_LENGTH = 1_000_000;

/** A key as a verifier is given it: `name+<key id>+<base64 of type and key>`. */
export type VerifierKey = {
  readonly name: string;
  readonly keyId: Uint8Array;
  readonly type: KeyType;
  readonly publicKey: Uint8Array;
};

/** One line below the text. `bytes` is what follows the key id. */
export type NoteSignature = {
  readonly name: string;
  readonly keyId: Uint8Array;
  readonly bytes: Uint8Array;
  /** The whole line with its line feed. */
  readonly line: string;
};

export type Note = { readonly text: string; readonly signatures: readonly NoteSignature[] };

/** Checks one kind of signature of one key over a note's text. */
export type NoteVerifier = {
  readonly key: VerifierKey;
  readonly verify: (text: string, signature: Uint8Array) => Promise<boolean>;
};

export type NoteSigner = {
  readonly key: VerifierKey;
  readonly sign: (text: string) => Promise<Uint8Array>;
};

/** SHA-256(name || 0x0A || type || public key), the first four bytes. */
export function keyIdOf(name: string, type: KeyType, publicKey: Uint8Array): Uint8Array {
  const named = new TextEncoder().encode(`${name}\n`);
  return sha256Bytes(concatBytes(named, Uint8Array.of(type), publicKey)).slice(0, KEY_ID_BYTES);
}

/** Whether a key may be so called: not empty, without Unicode spaces, control characters and "+". */
export function isKeyName(name: string): boolean {
  return name !== "" && name.isWellFormed() && !/[\p{White_Space}\p{Cc}+]/u.test(name);
}

/** @throws TypeError for a name that no note can carry. */
export function verifierKey(name: string, type: KeyType, publicKey: Uint8Array): VerifierKey {
  if (!isKeyName(name)) throw new TypeError("a key name is empty or holds spaces or a plus sign");
  return { name, keyId: keyIdOf(name, type, publicKey), type, publicKey };
}

export function formatVkey({ name, keyId, type, publicKey }: VerifierKey): string {
  return `${name}+${toHex(keyId)}+${encodeBase64(concatBytes(Uint8Array.of(type), publicKey))}`;
}

/** The key that a vkey line names, or null: also for types that are not spoken here, and a key id that is not its own. */
export function parseVkey(text: string): VerifierKey | null {
  const match = /^([^+]+)\+([0-9a-f]{8})\+(.+)$/.exec(text);
  if (match === null) return null;
  const [, name = "", id = "", encoded = ""] = match;
  const bytes = decodeBase64(encoded);
  const type = bytes?.[0];
  if (bytes === null || (type !== ED25519 && type !== COSIGNATURE) || !isKeyName(name)) return null;
  const publicKey = bytes.slice(1);
  if (publicKey.length !== ED25519_KEY_BYTES) return null;
  const key = verifierKey(name, type, publicKey);
  return toHex(key.keyId) === id ? key : null;
}

/**
 * The parts of a signed note, nothing verified; null for what is no note:
 * control characters other than line feeds, no blank line, no signature, loose base64.
 */
export function parseNote(note: string): Note | null {
  if (note.length > MAX_NOTE_LENGTH || !note.isWellFormed()) return null;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the characters that the format forbids.
  if (/[\u0000-\u0009\u000b-\u001f]/.test(note)) return null;
  const blank = note.lastIndexOf("\n\n");
  if (blank === -1 || !note.endsWith("\n")) return null;
  const lines = note.slice(blank + 2).split("\n");
  lines.pop();
  if (lines.length === 0 || lines.length > MAX_SIGNATURES) return null;
  const signatures: NoteSignature[] = [];
  for (const line of lines) {
    const signature = parseSignatureLine(line);
    if (signature === null) return null;
    signatures.push(signature);
  }
  return { text: note.slice(0, blank + 1), signatures };
}

/** One signature line, without its line feed. */
export function parseSignatureLine(line: string): NoteSignature | null {
  const match = /^\u2014 ([^ ]+) ([^ ]+)$/.exec(line);
  if (match === null) return null;
  const [, name = "", encoded = ""] = match;
  const payload = decodeBase64(encoded);
  if (!isKeyName(name) || payload === null || payload.length <= KEY_ID_BYTES) return null;
  return {
    name,
    keyId: payload.slice(0, KEY_ID_BYTES),
    bytes: payload.slice(KEY_ID_BYTES),
    line: `${line}\n`,
  };
}

/** `— <name> <base64 of key id and signature>`, with its line feed. */
export function signatureLine({ name, keyId }: VerifierKey, signature: Uint8Array): string {
  return `\u2014 ${name} ${encodeBase64(concatBytes(keyId, signature))}\n`;
}

/**
 * Signs a text, which must end in a line feed.
 *
 * @throws TypeError for a text that no note can carry, and without a signer.
 */
export async function signNote(text: string, signers: readonly NoteSigner[]): Promise<string> {
  const lines: string[] = [];
  for (const { key, sign } of signers) lines.push(signatureLine(key, await sign(text)));
  const note = `${text}\n${lines.join("")}`;
  if (parseNote(note)?.text !== text) throw new TypeError("the text cannot be signed as a note");
  return note;
}

export type VerifiedNote =
  /** `known` are the signatures of known keys, all of which hold, one a key. */
  | { readonly ok: true; readonly text: string; readonly known: readonly KnownSignature[] }
  | { readonly ok: false; readonly reason: "malformed" | "no_known_signature" | "bad_signature" };

export type KnownSignature = { readonly key: VerifierKey; readonly signature: NoteSignature };

/** Verifies a note: at least one known key has signed, and no signature of a known key is bad. */
export async function verifyNote(
  note: string,
  verifiers: readonly NoteVerifier[],
): Promise<VerifiedNote> {
  const parsed = parseNote(note);
  if (parsed === null) return { ok: false, reason: "malformed" };
  const known: KnownSignature[] = [];
  for (const signature of parsed.signatures) {
    const verifier = verifiers.find(({ key }) => isOf(key, signature));
    if (verifier === undefined || known.some(({ key }) => isOf(key, signature))) continue;
    if (!(await verifier.verify(parsed.text, signature.bytes))) {
      return { ok: false, reason: "bad_signature" };
    }
    known.push({ key: verifier.key, signature });
  }
  return known.length === 0
    ? { ok: false, reason: "no_known_signature" }
    : { ok: true, text: parsed.text, known };
}

/** Whether a signature says that it is this key's. */
export function isOf(key: VerifierKey, signature: NoteSignature): boolean {
  return key.name === signature.name && equalBytes(key.keyId, signature.keyId);
}

/** Signs notes as type 0x01: the signature is over the text itself. */
export function noteSigner(name: string, key: Ed25519Key): NoteSigner {
  return {
    key: verifierKey(name, ED25519, key.publicKey),
    sign: (text) => key.sign(new TextEncoder().encode(text)),
  };
}

/** Verifies signatures of type 0x01. */
export function noteVerifier(key: VerifierKey): NoteVerifier {
  return {
    key,
    verify: (text, signature) =>
      verifyEd25519(key.publicKey, signature, new TextEncoder().encode(text)),
  };
}
