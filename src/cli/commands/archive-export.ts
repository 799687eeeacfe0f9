/**
 * @module
 * `archive export`: everything that the archive holds, day by day.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { type ExportedFile, type ExportManifest, MANIFEST, SESSIONS } from "./archive-files.ts";
import type { AdminClient } from "./gateway.ts";

const DAY_MS = 86_400_000;
const lifeSchema = z.object({ created_at: z.string(), last_seen_at: z.string() });

/** Writes an export into a folder; the manifest comes last, so that one without it is not whole. */
export async function exportArchive(
  gateway: AdminClient,
  dir: string,
  say: (text: string) => void,
): Promise<number> {
  await mkdir(join(dir, "records"), { recursive: true, mode: 0o700 });
  await rm(join(dir, MANIFEST), { force: true });
  let first: string | null = null;
  let last: string | null = null;
  const files: ExportedFile[] = [];
  files.push(
    await writeLines(gateway, dir, SESSIONS, "/archive/sessions", (line) => {
      const { created_at, last_seen_at } = lifeSchema.parse(JSON.parse(line));
      if (first === null || created_at < first) first = created_at;
      if (last === null || last_seen_at > last) last = last_seen_at;
    }),
  );
  for (const day of daysBetween(first, last)) {
    const name = `records/${day}.ndjson`;
    const file = await writeLines(gateway, dir, name, `/archive/records?day=${day}`);
    if (file.lines === 0) await rm(join(dir, name));
    else files.push(file);
    say(`${day}: ${file.lines} records`);
  }
  const manifest: ExportManifest = {
    format: "atlas-gate/export/v1",
    made_at: new Date().toISOString(),
    files,
  };
  await writeFile(join(dir, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`, { mode: 0o600 });
  say(`${files.length} files in ${dir}`);
  return 0;
}

async function writeLines(
  gateway: AdminClient,
  dir: string,
  name: string,
  path: string,
  see: (line: string) => void = () => undefined,
): Promise<ExportedFile> {
  const hash = createHash("sha256");
  const out = createWriteStream(join(dir, name), { mode: 0o600 });
  let lines = 0;
  let bytes = 0;
  for await (const line of gateway.lines(path)) {
    see(line);
    const text = Buffer.from(`${line}\n`);
    hash.update(text);
    lines += 1;
    bytes += text.length;
    if (!out.write(text)) await once(out, "drain");
  }
  out.end();
  await once(out, "finish");
  return { name, lines, bytes, sha256: hash.digest("hex") };
}

/** The UTC days from one time to the other, both included. A session's last record may come a day later. */
function daysBetween(first: string | null, last: string | null): string[] {
  if (first === null || last === null) return [];
  const days: string[] = [];
  const end = Date.parse(last) + DAY_MS;
  for (let day = Date.parse(first.slice(0, 10)); day <= end; day += DAY_MS) {
    days.push(new Date(day).toISOString().slice(0, 10));
  }
  return days;
}
