/**
 * @module
 * The file in which `log audit` remembers how far it has come. It is the
 * auditor's own: whoever can change it can make the next audit believe what
 * no audit has seen.
 */
import { readFile, rename, writeFile } from "node:fs/promises";
import * as z from "zod";
import { decodeBase64, encodeBase64 } from "../log/bytes.ts";
import { type AuditState, newAudit } from "../verify/audit-log.ts";
import { UsageError } from "./command.ts";

const FORMAT = "atlas-gate/log-audit/v1";

const bytes = z.string().transform((text, context) => {
  const decoded = decodeBase64(text);
  if (decoded !== null) return decoded;
  context.addIssue({ code: "custom", message: "not base64" });
  return z.NEVER;
});

const stateSchema = z.strictObject({
  format: z.literal(FORMAT),
  size: z.int().min(0),
  /** The unfinished tile of each level. */
  edge: z.array(bytes),
  checkpoint: z.string().nullable(),
  /** Not in states of before it was remembered. */
  time: z.string().optional(),
  kinds: z.record(z.string(), z.int()),
  sessions: z.array(z.tuple([z.string(), z.string(), z.int(), z.string()])),
});

/** The state in a file; a new one where there is none yet. */
export async function loadAudit(path: string): Promise<AuditState> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return newAudit();
    throw new UsageError(`${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
  try {
    const { size, edge, checkpoint, time, kinds, sessions } = stateSchema.parse(JSON.parse(text));
    return {
      edge: { size, tiles: edge },
      checkpoint,
      time: time ?? null,
      kinds: new Map(Object.entries(kinds)),
      sessions: new Map(
        sessions.map(([session, kind, seq, hash_chain]) => [session, { kind, seq, hash_chain }]),
      ),
    };
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof z.ZodError) {
      throw new UsageError(`${path}: not the state of an audit`);
    }
    throw error;
  }
}

/** Writes beside and renames: an audit that is stopped leaves the state of before. */
export async function saveAudit(path: string, state: AuditState): Promise<void> {
  const { edge, sessions, kinds, checkpoint, time } = state;
  const text = JSON.stringify({
    format: FORMAT,
    size: edge.size,
    edge: edge.tiles.map(encodeBase64),
    checkpoint,
    ...(time === null ? {} : { time }),
    kinds: Object.fromEntries(kinds),
    sessions: [...sessions].map(([name, at]) => [name, at.kind, at.seq, at.hash_chain]),
  });
  await writeFile(`${path}.new`, text);
  await rename(`${path}.new`, path);
}
