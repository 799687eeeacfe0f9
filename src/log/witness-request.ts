/**
 * @module
 * The one request of the witness protocol (C2SP tlog-witness), as both sides
 * write and read it: `POST <prefix>/add-checkpoint`.
 */
import { encodeBase64, parseDecimal } from "./bytes.ts";
import { parseHashLines } from "./tlog-proof.ts";

export const SIZE_TYPE = "text/x.tlog.size";
/** 63 proof lines, and a note with many signatures. */
export const MAX_REQUEST_BYTES = 64 * 1024;

export type AddCheckpoint = {
  /** The size that the witness cosigned last, as the sender knows it. */
  readonly oldSize: number;
  readonly proof: readonly Uint8Array[];
  /** The signed checkpoint. */
  readonly note: string;
};

export function formatAddCheckpoint({ oldSize, proof, note }: AddCheckpoint): string {
  return `old ${oldSize}\n${proof.map((hash) => `${encodeBase64(hash)}\n`).join("")}\n${note}`;
}

/** The parts of a request's body, nothing verified, or null. */
export function parseAddCheckpoint(body: string): AddCheckpoint | null {
  const blank = body.indexOf("\n\n");
  if (blank === -1) return null;
  const [first = "", ...lines] = body.slice(0, blank).split("\n");
  const oldSize = first.startsWith("old ") ? parseDecimal(first.slice("old ".length)) : null;
  const proof = parseHashLines(lines);
  if (oldSize === null || proof === null) return null;
  return { oldSize, proof, note: body.slice(blank + 2) };
}

/** The size that a 409 answers with, or null. */
export function parseSize(body: string): number | null {
  return body.endsWith("\n") ? parseDecimal(body.slice(0, -1)) : null;
}
