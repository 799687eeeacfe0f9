/**
 * @module
 * A session's records for readers: from the session's object while it holds
 * them, from the archive after that.
 */
import type { ArchivedSession } from "../archive/archive.ts";
import { openArchive } from "../archive/open.ts";
import { SegmentReader, sealKeyOf } from "../archive/segment-reader.ts";
import { sha256Hex } from "../audit/hash-node.ts";
import { type AuditRecord, exportLine, recordSchema, type StoredRecord } from "../audit/record.ts";
import { requireConfig } from "../config.ts";
import { BOOTSTRAP_PRINCIPAL, type Principal, SYSTEM_PRINCIPAL } from "../edge/principal.ts";
import { sessionStub } from "../objects.ts";
import { matchesAnyRoot } from "../policy/glob.ts";
import { ambientSessionId, isMintedSessionId, looksAmbient, mintedAtMs } from "./ids.ts";
import type { SessionStatus } from "./state.ts";

/** Records of one page: a page crosses an object boundary whole. */
export const PAGE_RECORDS = 500;

export type AuditedSession = Pick<
  SessionStatus,
  "session_id" | "tenant" | "principal" | "role" | "workspace_root" | "entries" | "ended_at"
> & { readonly head: string | null; readonly era: string };

export type AuditSource = {
  readonly session: AuditedSession;
  /** Every workspace that the session was ever bound to. */
  readonly roots: () => Promise<string[]>;
  /** Records after a seq, in order, at most `limit`; empty at the end. */
  readonly page: (afterSeq: number, limit: number) => Promise<StoredRecord[]>;
};

/** Finds a session's records; null when there is no such session. */
export async function openSource(env: Env, sessionId: string): Promise<AuditSource | null> {
  const held = await askObject(env, sessionId);
  if (held !== null) {
    const stub = sessionStub(env, sessionId);
    return {
      session: held,
      roots: async () => held.roots,
      page: async (afterSeq, limit) =>
        // The object frees its storage once the archive has everything, between two pages too.
        (await stub.page(afterSeq, limit)) ??
        (await openArchive(env).page(sessionId, afterSeq, limit)),
    };
  }
  const archive = openArchive(env);
  const row = await archive.session(sessionId);
  if (row === null) return null;
  // Past its retention a session is in R2 alone.
  if (row.retired_at !== null) return segmentSource(env, row);
  return {
    session: row,
    roots: () => archive.roots(sessionId),
    page: (afterSeq, limit) => archive.page(sessionId, afterSeq, limit),
  };
}

/** A session's records as its segments hold them; arguments too, while its key is there. */
function segmentSource(env: Env, row: ArchivedSession): AuditSource {
  const key = sealKeyOf(requireConfig(env).secretsKey, row);
  const segments = new SegmentReader(env.BUCKET, row, key);
  return {
    session: row,
    roots: () => segments.roots(),
    page: (afterSeq, limit) => segments.page(afterSeq, limit),
  };
}

/** What an object that may still hold a session says of it; null when none does. */
export async function heldSession(env: Env, sessionId: string): Promise<SessionStatus | null> {
  return askObject(env, sessionId);
}

/** Every record of a source, page by page. */
export async function* allRecords(source: AuditSource): AsyncGenerator<StoredRecord> {
  let after = 0;
  for (;;) {
    const page = await source.page(after, PAGE_RECORDS);
    yield* page;
    const last = page.at(-1);
    if (last === undefined || page.length < PAGE_RECORDS) return;
    after = last.seq;
  }
}

/**
 * Whether an id is that of the ambient session of anybody who ever had a key, on
 * the day that it names. Who comes with a token or a certificate is known from
 * the index of sessions, a flush later.
 */
async function isAmbientOfSomebody(env: Env, sessionId: string): Promise<boolean> {
  const day = mintedAtMs(sessionId);
  const own = [BOOTSTRAP_PRINCIPAL, SYSTEM_PRINCIPAL.id];
  const owners = [
    ...own.map((principal) => ({ tenant: "default", principal })),
    ...(await keyOwners(env.ARCHIVE_DB)),
  ];
  return (
    owners.some((owner) => ambientSessionId(sha256Hex, owner, day) === sessionId) ||
    (await openArchive(env).session(sessionId)) !== null
  );
}

/** The principals of all keys, ended ones too: their sessions are evidence still. */
async function keyOwners(db: D1Database): Promise<{ tenant: string; principal: string }[]> {
  const { results } = await db
    .prepare("SELECT DISTINCT tenant, 'key:' || line AS principal FROM api_keys")
    .all<{ tenant: string; principal: string }>();
  return results;
}

/**
 * Only ids that this deployment can have given out reach an object: an object
 * that was merely asked leaves a file behind. A minted id proves it by its MAC,
 * an ambient one by the principal that it was made of.
 */
async function askObject(env: Env, sessionId: string): Promise<SessionStatus | null> {
  const { sessionIdKey } = requireConfig(env);
  const known =
    isMintedSessionId(sessionIdKey, sessionId) ||
    (looksAmbient(sessionId) && (await isAmbientOfSomebody(env, sessionId)));
  return known ? sessionStub(env, sessionId).status() : null;
}

/** The record of a stored line, or null when it is none: then it was not the gateway that wrote it. */
export function parseStoredRecord(stored: StoredRecord): AuditRecord | null {
  try {
    return recordSchema.safeParse(JSON.parse(stored.line)).data ?? null;
  } catch {
    return null;
  }
}

/** The export line of a stored record; what is no record any more goes out as it is, for a verifier to find. */
export function exportedLine(stored: StoredRecord): string {
  try {
    return exportLine(stored);
  } catch {
    return stored.line;
  }
}

/** Whether an auditor may see a session: one of its tenant, within the workspaces of its key. */
export async function mayAudit(caller: Principal, source: AuditSource): Promise<boolean> {
  if (source.session.tenant !== caller.tenant) return false;
  const { workspaces } = caller;
  if (workspaces === null) return true;
  const roots = await source.roots();
  return roots.length > 0 && roots.every((root) => matchesAnyRoot(workspaces, root));
}
