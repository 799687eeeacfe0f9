/**
 * @module
 * Moving evidence: from one archive to the other, from segments or an export
 * into an archive. Every step is bounded and may be repeated; what is there
 * already is compared and left as it is.
 */
import * as z from "zod";
import { argsStoredHash } from "../audit/chain.ts";
import { sha256Hex } from "../audit/hash-node.ts";
import { parseExportLine, recordSchema, type StoredRecord } from "../audit/record.ts";
import type { Archive, ArchivedSession, SessionRow } from "./archive.ts";
import { backedUpSessions, newestBackup } from "./backup.ts";
import { type Copies, compareSession } from "./compare.ts";
import {
  parseSegmentName,
  readSegment,
  type SegmentLine,
  type SegmentName,
  sealKeyOf,
} from "./segment-reader.ts";

const SESSIONS_A_STEP = 20;
const SEGMENTS_A_STEP = 20;
const BATCH_RECORDS = 500;

export type Problem = {
  readonly session_id: string;
  readonly seq: number;
  readonly message: string;
};

export type Progress = {
  readonly sessions: number;
  readonly records: number;
  readonly problems: readonly Problem[];
  /** Where to go on; null at the end. */
  readonly next: string | null;
};

/** Copies the next sessions after `after` from one archive to the other. */
export async function backfill(
  from: Archive,
  to: Archive,
  after: string,
  knownTools: readonly string[],
): Promise<Progress> {
  const rows = await from.walk({ after, limit: SESSIONS_A_STEP });
  const problems: Problem[] = [];
  let records = 0;
  for (const row of rows) {
    const copied = await copySession(from, to, row, knownTools);
    records += copied.records;
    problems.push(...copied.conflicts.map((seq) => conflictAt(row.session_id, seq)));
  }
  const last = rows.length < SESSIONS_A_STEP ? undefined : rows.at(-1);
  return { sessions: rows.length, records, problems, next: last?.session_id ?? null };
}

async function copySession(
  from: Archive,
  to: Archive,
  row: ArchivedSession,
  knownTools: readonly string[],
) {
  const { erased_at, retired_at, ...session } = row;
  const conflicts: number[] = [];
  let records = 0;
  let after = 0;
  for (;;) {
    const page = await from.page(row.session_id, after, BATCH_RECORDS);
    conflicts.push(...(await to.write(session, page, knownTools)));
    records += page.length;
    after = page.at(-1)?.seq ?? after;
    if (page.length < BATCH_RECORDS) break;
  }
  if (erased_at !== null) await to.erase(row.session_id, erased_at);
  if (retired_at !== null) await to.retire(row.session_id, retired_at);
  return { records, conflicts };
}

/**
 * Holds the next sessions of an archive against their chains, their segments and
 * what the log anchored of them, and, where `against` is another archive,
 * against the sessions that are to be there. A session that goes on is ahead in
 * the archive that it writes to: of such a one, what is here must hold.
 */
export async function verifyArchive(
  copies: Copies,
  against: Archive,
  after: string,
): Promise<Progress> {
  const rows = await against.walk({ after, limit: SESSIONS_A_STEP });
  const problems: Problem[] = [];
  let records = 0;
  for (const row of rows) {
    const { session_id } = row;
    const goesOn = row.ended_at === null && against !== copies.archive;
    const here = goesOn ? await copies.archive.session(session_id) : row;
    if (here === null) continue;
    const found = goesOn
      ? await compareSession(upTo(copies, here.entries), here)
      : await compareSession(copies, row);
    records += found.records;
    problems.push(...found.problems.map((problem) => ({ session_id, ...problem })));
  }
  const last = rows.length < SESSIONS_A_STEP ? undefined : rows.at(-1);
  return { sessions: rows.length, records, problems, next: last?.session_id ?? null };
}

/** The copies as they are of a session that goes on elsewhere: what the log anchored since is not here yet. */
function upTo(copies: Copies, entries: number): Copies {
  return {
    ...copies,
    anchored: async (tenant, sessionId) => {
      const anchor = await copies.anchored(tenant, sessionId);
      return anchor !== null && anchor.seq > entries ? null : anchor;
    },
  };
}

/**
 * Writes the records of the next segments after the key `after`. Arguments come with the
 * keys of the newest backup, and with those of sessions that their objects still hold: one
 * that was opened since is in no backup. A session that the archive knows as retired stays
 * in R2 alone, where its retention has put it.
 *
 * @param held what an object that still holds a session says of it
 */
export async function rebuild(
  archive: Archive,
  bucket: R2Bucket,
  secretsKey: Uint8Array,
  held: (sessionId: string) => Promise<SessionRow | null>,
  after: string,
  knownTools: readonly string[],
): Promise<Progress> {
  const listed = await bucket.list({
    prefix: "audit/",
    limit: SEGMENTS_A_STEP,
    ...(after === "" ? {} : { startAfter: after }),
  });
  const names = listed.objects.flatMap(({ key }) => parseSegmentName(key) ?? []);
  const ids = new Set(names.map(({ session_id }) => session_id));
  const backedUp = await rowsOf(bucket, ids);
  const problems: Problem[] = [];
  let records = 0;
  for (const name of names) {
    const { session_id } = name;
    const stored = await archive.session(session_id);
    if (stored !== null && stored.retired_at !== null) continue;
    const known = stored ?? backedUp.get(session_id) ?? (await held(session_id));
    const key = known === null ? null : sealKeyOf(secretsKey, known);
    const lines = await readSegment(bucket, name, key);
    problems.push(...problemsIn(name.session_id, lines));
    const segment = lines.flatMap(recordIn);
    if (segment.length === 0) continue;
    const conflicts = await archive.write(rowAfter(name, known, segment), segment, knownTools);
    problems.push(...conflicts.map((seq) => conflictAt(name.session_id, seq)));
    records += segment.length;
  }
  return {
    sessions: ids.size,
    records,
    problems,
    next: listed.truncated ? (listed.objects.at(-1)?.key ?? null) : null,
  };
}

function problemsIn(session_id: string, lines: readonly SegmentLine[]): Problem[] {
  return lines.flatMap(({ stored: { seq }, problem }) =>
    problem === null ? [] : [{ session_id, seq, message: `its line in R2: ${problem}` }],
  );
}

/** What an archive may be given of a segment's line: no record that is not its hash, no arguments that are not the record's. */
function recordIn({ kind, stored, problem }: SegmentLine): StoredRecord[] {
  if (kind === "damaged") return [];
  return [problem === null ? stored : { ...stored, args: null, salt: null }];
}

async function rowsOf(bucket: R2Bucket, ids: Set<string>): Promise<Map<string, SessionRow>> {
  const rows = new Map<string, SessionRow>();
  const backup = await newestBackup(bucket);
  if (backup === null) return rows;
  for await (const row of backedUpSessions(bucket, backup)) {
    if (ids.has(row.session_id)) rows.set(row.session_id, row);
  }
  return rows;
}

const eraOf = z.object({ era: z.string() });

/** A session's row as its records tell it, once a segment is in. */
function rowAfter(
  name: SegmentName,
  known: SessionRow | null,
  segment: readonly StoredRecord[],
): SessionRow {
  const [first, last] = [segment[0], segment.at(-1)];
  if (first === undefined || last === undefined) throw new Error(`${name.key} is empty`);
  const opening = recordSchema.parse(JSON.parse(first.line));
  const closing = recordSchema.parse(JSON.parse(last.line));
  const era = eraOf.safeParse(opening.context).data?.era;
  return {
    session_id: name.session_id,
    tenant: name.tenant,
    principal: opening.principal,
    role: opening.role,
    era: known?.era ?? era ?? "2025",
    workspace_root: closing.workspace_root ?? known?.workspace_root ?? null,
    plan_hash: closing.plan_hash ?? known?.plan_hash ?? null,
    created_at: known?.created_at ?? opening.timestamp,
    last_seen_at: closing.timestamp,
    entries: last.seq,
    head: last.hash_chain,
    ended_at: closing.event === "session_close" ? closing.timestamp : null,
    wrapped_key: known?.wrapped_key ?? null,
  };
}

/** Writes records of an export, each of which must be its hash, with the row of its session. */
export async function importRecords(
  archive: Archive,
  session: SessionRow,
  lines: readonly string[],
  knownTools: readonly string[],
): Promise<Progress> {
  const { session_id } = session;
  const problems: Problem[] = [];
  const records: StoredRecord[] = [];
  const known = await archive.session(session_id);
  const erased = known !== null && known.erased_at !== null;
  for (const line of lines) {
    const parsed = parseExportLine(line);
    if (!parsed.ok) {
      problems.push({ session_id, seq: 0, message: `${parsed.code}: ${parsed.message}` });
      continue;
    }
    const message = wrongOf(parsed.record, parsed.stored, session);
    if (message !== null) problems.push({ session_id, seq: parsed.stored.seq, message });
    // What was erased since the export was made must not come back with it.
    else records.push(erased ? { ...parsed.stored, args: null, salt: null } : parsed.stored);
  }
  records.sort((a, b) => a.seq - b.seq);
  const conflicts = await archive.write(session, records, knownTools);
  problems.push(...conflicts.map((seq) => conflictAt(session_id, seq)));
  return { sessions: 1, records: records.length, problems, next: null };
}

function wrongOf(
  record: { session_id: string; tenant: string; args_stored_hash: string | null },
  { line, hash_chain, args, salt }: StoredRecord,
  session: SessionRow,
): string | null {
  if (record.session_id !== session.session_id || record.tenant !== session.tenant) {
    return "it is of another session";
  }
  if (sha256Hex(line) !== hash_chain) return "it is not its hash";
  if (args === null) return null;
  const hash = salt === null ? null : argsStoredHash(sha256Hex, salt, args);
  return hash === record.args_stored_hash ? null : "its arguments are not those of the record";
}

function conflictAt(session_id: string, seq: number): Problem {
  return { session_id, seq, message: "the archive holds another record here" };
}
