/**
 * @module
 * The daily backup in R2: the records of one UTC day, in parts, with the index
 * of all sessions and a manifest of hashes. Arguments are sealed as in
 * segments, so that an erasure reaches these copies too.
 *
 * A backup complements the segments and does not repeat them: sessions and
 * their keys are nowhere else, and 30 days bound how long an erased key lasts.
 */
import { createHash } from "node:crypto";
import * as z from "zod";
import { segmentLine } from "../audit/seal.ts";
import { type Archive, BEFORE_ALL_SESSIONS, type EntryPlace, type SessionRow } from "./archive.ts";
import { sealKeyOf } from "./segment-reader.ts";

export const BACKUPS_KEPT = 30;
const DAY_MS = 86_400_000;
const PREFIX = "backup/";
/** Records of one part: a part is in memory whole. */
const PART_RECORDS = 2_000;
const PART_SESSIONS = 2_000;
/** Keys of sessions that are remembered while a part is sealed. */
const KNOWN_KEYS = 500;

const partSchema = z.object({
  name: z.string(),
  lines: z.int(),
  bytes: z.int(),
  sha256: z.string(),
});

export const manifestSchema = z.object({
  format: z.literal("atlas-gate/backup/v1"),
  day: z.string(),
  made_at: z.string(),
  parts: z.array(partSchema),
});

export type Manifest = z.infer<typeof manifestSchema>;

/** How far a backup has come; what a cron run cannot finish, the next one goes on with. */
export const backupStateSchema = z.object({
  parts: z.array(partSchema),
  sessionsAfter: z.string().nullable(),
  recordsAfter: z
    .object({ timestamp: z.string(), session_id: z.string(), seq: z.int() })
    .nullable(),
});

export type BackupState = z.infer<typeof backupStateSchema>;

export const BACKUP_START: BackupState = {
  parts: [],
  sessionsAfter: BEFORE_ALL_SESSIONS,
  recordsAfter: null,
};

export type BackupContext = {
  readonly archive: Archive;
  readonly bucket: R2Bucket;
  readonly secretsKey: Uint8Array;
};

/** Writes the next part of a day's backup; null when the manifest is written and all is done. */
export async function backupStep(
  { archive, bucket, secretsKey }: BackupContext,
  day: string,
  state: BackupState,
  now: number,
): Promise<BackupState | null> {
  if (state.sessionsAfter !== null) {
    const rows = await archive.walk({ after: state.sessionsAfter, limit: PART_SESSIONS });
    const last = rows.at(-1);
    const part = await putPart(
      bucket,
      day,
      "sessions",
      state.parts,
      rows.map((row) => JSON.stringify(row)),
    );
    return {
      ...state,
      parts: [...state.parts, ...part],
      sessionsAfter: rows.length < PART_SESSIONS || last === undefined ? null : last.session_id,
    };
  }
  const records = await archive.scan({
    since: `${day}T00:00:00.000Z`,
    before: new Date(Date.parse(day) + DAY_MS).toISOString(),
    after: state.recordsAfter,
    limit: PART_RECORDS,
  });
  const last = records.at(-1);
  if (last === undefined) {
    const manifest: Manifest = {
      format: "atlas-gate/backup/v1",
      day,
      made_at: new Date(now).toISOString(),
      parts: state.parts,
    };
    await bucket.put(`${PREFIX}${day}/manifest.json`, `${JSON.stringify(manifest, null, 2)}\n`);
    await dropOld(bucket, day);
    return null;
  }
  const keyOf = keyCache(archive, secretsKey);
  const lines: string[] = [];
  for (const record of records) {
    const key = await keyOf(record.session_id);
    // Without a key there are no arguments either: the line is sealed under nothing.
    lines.push(
      segmentLine(key ?? NO_KEY, key === null ? { ...record, args: null, salt: null } : record),
    );
  }
  const part = await putPart(bucket, day, "records", state.parts, lines);
  const place: EntryPlace = {
    timestamp: last.timestamp,
    session_id: last.session_id,
    seq: last.seq,
  };
  return { ...state, parts: [...state.parts, ...part], recordsAfter: place };
}

/** Seals the nulls of a session whose key is erased: there is nothing to hide in them. */
const NO_KEY = new Uint8Array(32);

/** The newest finished backup, or null. */
export async function newestBackup(bucket: R2Bucket): Promise<Manifest | null> {
  for (const day of (await backupDays(bucket)).toReversed()) {
    const object = await bucket.get(`${PREFIX}${day}/manifest.json`);
    if (object !== null) return manifestSchema.parse(await object.json());
  }
  return null;
}

/** The rows of all sessions as the newest backup has them, by id. */
export async function* backedUpSessions(
  bucket: R2Bucket,
  manifest: Manifest,
): AsyncGenerator<SessionRow> {
  for (const { name, sha256 } of manifest.parts) {
    if (!name.startsWith("sessions-")) continue;
    const object = await bucket.get(`${PREFIX}${manifest.day}/${name}`);
    if (object === null) throw new Error(`The backup of ${manifest.day} lacks ${name}`);
    const text = new TextDecoder().decode(await object.arrayBuffer());
    if (hashOf(text) !== sha256) throw new Error(`${name} is not what the manifest says`);
    for (const line of text.split("\n"))
      if (line !== "") yield sessionRowSchema.parse(JSON.parse(line));
  }
}

/** A session's row, as it is written down outside a database. */
export const sessionRowSchema = z.object({
  session_id: z.string(),
  tenant: z.string(),
  principal: z.string(),
  role: z.string(),
  era: z.string(),
  workspace_root: z.string().nullable(),
  plan_hash: z.string().nullable(),
  created_at: z.string(),
  last_seen_at: z.string(),
  entries: z.int(),
  head: z.string().nullable(),
  ended_at: z.string().nullable(),
  wrapped_key: z.string().nullable(),
});

async function putPart(
  bucket: R2Bucket,
  day: string,
  kind: "sessions" | "records",
  known: readonly z.infer<typeof partSchema>[],
  lines: readonly string[],
): Promise<z.infer<typeof partSchema>[]> {
  if (lines.length === 0) return [];
  const number = known.filter(({ name }) => name.startsWith(kind)).length + 1;
  const name = `${kind}-${String(number).padStart(5, "0")}.ndjson`;
  const text = lines.map((line) => `${line}\n`).join("");
  await bucket.put(`${PREFIX}${day}/${name}`, text, {
    httpMetadata: { contentType: "application/x-ndjson" },
  });
  return [{ name, lines: lines.length, bytes: Buffer.byteLength(text), sha256: hashOf(text) }];
}

function keyCache(archive: Archive, secretsKey: Uint8Array) {
  const known = new Map<string, Uint8Array | null>();
  return async (sessionId: string): Promise<Uint8Array | null> => {
    let key = known.get(sessionId);
    if (key === undefined) {
      const row = await archive.session(sessionId);
      key = row === null ? null : sealKeyOf(secretsKey, row);
      if (known.size >= KNOWN_KEYS) known.clear();
      known.set(sessionId, key);
    }
    return key;
  };
}

async function backupDays(bucket: R2Bucket): Promise<string[]> {
  const listed = await bucket.list({ prefix: PREFIX, delimiter: "/" });
  return listed.delimitedPrefixes.map((prefix) => prefix.slice(PREFIX.length, -1)).sort();
}

/** Only the newest are kept; `day` is the one that was just made. */
async function dropOld(bucket: R2Bucket, day: string): Promise<void> {
  const days = (await backupDays(bucket)).filter((each) => each <= day);
  for (const old of days.slice(0, -BACKUPS_KEPT)) {
    for (;;) {
      const { objects } = await bucket.list({ prefix: `${PREFIX}${old}/` });
      if (objects.length === 0) break;
      await bucket.delete(objects.map(({ key }) => key));
    }
  }
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
