/**
 * @module
 * What commands are given as files and keys. Whatever is not readable is the
 * user's to mend, and never a verdict.
 */
import { readFile } from "node:fs/promises";
import { ED25519, parseVkey, type VerifierKey } from "../log/note.ts";
import { UsageError } from "./command.ts";

/** A file's text; `-` is standard input. UTF-8 that is broken is refused: it would hide what was changed. */
export async function readText(path: string): Promise<string> {
  let bytes: Uint8Array;
  try {
    bytes = path === "-" ? await readInput() : await readFile(path);
  } catch (error) {
    throw new UsageError(`${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    // The decoder throws for one reason only.
    throw new UsageError(`${path}: not UTF-8`);
  }
}

async function readInput(): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Keys of a log. Undefined when none is given. */
export function readVkeys(texts: readonly string[] | undefined): VerifierKey[] | undefined {
  return texts?.map((text) => {
    const key = parseVkey(text.trim());
    if (key?.type === ED25519) return key;
    throw new UsageError(`--vkey: not the key of a log: ${text}`);
  });
}
