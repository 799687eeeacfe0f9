/**
 * @module
 * `archive restore`: an export into an archive, which may be empty or not.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { fileHash, linesOf, MANIFEST, manifestSchema, SESSIONS } from "./archive-files.ts";
import type { AdminClient } from "./gateway.ts";

const BATCH_LINES = 500;
/** Below the least that a gateway takes as a body by default, escaped once more as JSON. */
const BATCH_CHARACTERS = 1_000_000;

const rowSchema = z.looseObject({ session_id: z.string() });
const ownerSchema = z.object({ session_id: z.string() });
const answerSchema = z.object({
  problems: z.array(z.object({ seq: z.int(), message: z.string() })),
});

/** Restores an export that is what its manifest says; false when a record was refused. */
export async function restoreArchive(
  gateway: AdminClient,
  dir: string,
  say: (text: string) => void,
): Promise<boolean> {
  const manifest = manifestSchema.parse(JSON.parse(await readFile(join(dir, MANIFEST), "utf8")));
  for (const { name, sha256 } of manifest.files) {
    if ((await fileHash(join(dir, name))) !== sha256) {
      throw new Error(`${name} is not what the manifest says.`);
    }
  }
  const rows = new Map<string, object>();
  for await (const line of linesOf(join(dir, SESSIONS))) {
    const row = rowSchema.parse(JSON.parse(line));
    rows.set(row.session_id, row);
  }
  let good = true;
  const send = async (id: string, lines: readonly string[]) => {
    const session = rows.get(id);
    if (session === undefined) throw new Error(`${SESSIONS} lacks the session ${id}.`);
    const { problems } = await gateway.post("/archive/import", { session, lines }, answerSchema);
    for (const { seq, message } of problems) {
      say(`PROBLEM  ${id} record ${seq}: ${message}`);
      good = false;
    }
  };
  for (const id of rows.keys()) await send(id, []);
  for (const { name, lines } of manifest.files) {
    if (name === SESSIONS) continue;
    await sendDay(linesOf(join(dir, name)), send);
    say(`${name}: ${lines} records`);
  }
  return good;
}

/** Records of many sessions lie in the order of time; they are sent session by session. */
async function sendDay(
  lines: AsyncIterable<string>,
  send: (id: string, lines: readonly string[]) => Promise<void>,
): Promise<void> {
  const waiting = new Map<string, string[]>();
  let characters = 0;
  const flush = async () => {
    for (const [id, batch] of waiting) {
      for (let at = 0; at < batch.length; at += BATCH_LINES) {
        await send(id, batch.slice(at, at + BATCH_LINES));
      }
    }
    waiting.clear();
    characters = 0;
  };
  for await (const line of lines) {
    const { session_id } = ownerSchema.parse(JSON.parse(line));
    const batch = waiting.get(session_id) ?? [];
    batch.push(line);
    waiting.set(session_id, batch);
    characters += line.length;
    if (characters >= BATCH_CHARACTERS) await flush();
  }
  await flush();
}
