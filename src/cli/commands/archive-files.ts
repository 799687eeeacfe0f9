/**
 * @module
 * What an export of the archive is on disk: `sessions.ndjson`, one file of
 * records a UTC day, and a manifest of their hashes.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import * as z from "zod";
import { linesIn } from "./lines.ts";

export const MANIFEST = "manifest.json";
export const SESSIONS = "sessions.ndjson";

const fileSchema = z.object({
  name: z.string().regex(/^(?:sessions|records\/\d{4}-\d\d-\d\d)\.ndjson$/),
  lines: z.int(),
  bytes: z.int(),
  sha256: z.string(),
});

export const manifestSchema = z.object({
  format: z.literal("atlas-gate/export/v1"),
  made_at: z.string(),
  files: z.array(fileSchema),
});

export type ExportedFile = z.infer<typeof fileSchema>;
export type ExportManifest = z.infer<typeof manifestSchema>;

/** Hex SHA-256 of a file, read as a stream. */
export async function fileHash(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest("hex");
}

/** The lines of a file. */
export function linesOf(path: string): AsyncGenerator<string> {
  return linesIn(createReadStream(path, "utf8"));
}
