/**
 * @module
 * Proofs that can be carried away (C2SP tlog-proof): the index of an entry, its
 * inclusion proof and the checkpoint, as one text.
 */
import { decodeBase64, encodeBase64, parseDecimal } from "./bytes.ts";
import { HASH_BYTES } from "./merkle.ts";

const HEADER = "c2sp.org/tlog-proof@v1";
/** A tree of 2^53 leaves has no longer proof; the format's own bound for proofs is 63. */
const MAX_PROOF_HASHES = 63;

export type TlogProof = {
  /** Data of the application, which nothing authenticates; null for none. */
  readonly extra: Uint8Array | null;
  readonly index: number;
  readonly proof: readonly Uint8Array[];
  /** The signed checkpoint, verbatim. */
  readonly checkpoint: string;
};

export function formatTlogProof({ extra, index, proof, checkpoint }: TlogProof): string {
  const lines = [
    HEADER,
    ...(extra === null ? [] : [`extra ${encodeBase64(extra)}`]),
    `index ${index}`,
    ...proof.map(encodeBase64),
  ];
  return `${lines.join("\n")}\n\n${checkpoint}`;
}

/** The parts of a proof, nothing verified, or null. */
export function parseTlogProof(text: string): TlogProof | null {
  const blank = text.indexOf("\n\n");
  if (blank === -1) return null;
  const lines = text.slice(0, blank).split("\n");
  if (lines.shift() !== HEADER) return null;
  let extra: Uint8Array | null = null;
  if (lines[0]?.startsWith("extra ")) {
    extra = decodeBase64(lines[0].slice("extra ".length));
    if (extra === null) return null;
    lines.shift();
  }
  const indexLine = lines.shift();
  if (indexLine?.startsWith("index ") !== true) return null;
  const index = parseDecimal(indexLine.slice("index ".length));
  const proof = parseHashLines(lines);
  if (index === null || proof === null) return null;
  return { extra, index, proof, checkpoint: text.slice(blank + 2) };
}

/** Lines that are a hash each, in base64; null when one is not, or there are more than 63. */
export function parseHashLines(lines: readonly string[]): Uint8Array[] | null {
  if (lines.length > MAX_PROOF_HASHES) return null;
  const hashes: Uint8Array[] = [];
  for (const line of lines) {
    const hash = decodeBase64(line);
    if (hash?.length !== HASH_BYTES) return null;
    hashes.push(hash);
  }
  return hashes;
}
