/**
 * @module
 * A session's records for readers: from the session's object while it holds
 * them, from the archive after that.
 */
import { type AuditRecord, recordSchema, type StoredRecord } from "../audit/record.ts";
import { readArchive, readSessionRow } from "../audit/sinks/d1.ts";
import { requireConfig } from "../config.ts";
import type { Principal } from "../edge/principal.ts";
import { sessionStub } from "../objects.ts";
import { matchesAnyRoot } from "../policy/glob.ts";
import { isMintedSessionId, looksAmbient } from "./ids.ts";
import type { SessionStatus } from "./state.ts";

/** Records of one page: a page crosses an object boundary whole. */
export const PAGE_RECORDS = 500;

export type AuditedSession = Pick<
  SessionStatus,
  "session_id" | "tenant" | "principal" | "role" | "workspace_root"
>;

export type AuditSource = {
  readonly session: AuditedSession;
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
      page: async (afterSeq, limit) =>
        // The object frees its storage once the archive has everything, between two pages too.
        (await stub.page(afterSeq, limit)) ??
        (await readArchive(env.ARCHIVE_DB, sessionId, afterSeq, limit)),
    };
  }
  const row = await readSessionRow(env.ARCHIVE_DB, sessionId);
  if (row === null) return null;
  return {
    session: row,
    page: (afterSeq, limit) => readArchive(env.ARCHIVE_DB, sessionId, afterSeq, limit),
  };
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

/** Only ids that this deployment can have given out reach an object. */
async function askObject(env: Env, sessionId: string): Promise<SessionStatus | null> {
  const { sessionIdKey } = requireConfig(env);
  if (!isMintedSessionId(sessionIdKey, sessionId) && !looksAmbient(sessionId)) return null;
  return sessionStub(env, sessionId).status();
}

/** The record of a stored line. Throws when the line is not a record: then it was not the gateway that wrote it. */
export function parseStoredRecord(stored: StoredRecord): AuditRecord {
  return recordSchema.parse(JSON.parse(stored.line));
}

/** Whether an auditor may see a session: one of its tenant, within the workspaces of its key. */
export function mayAudit(caller: Principal, { session }: AuditSource): boolean {
  if (session.tenant !== caller.tenant) return false;
  if (caller.workspaces === null) return true;
  return (
    session.workspace_root !== null && matchesAnyRoot(caller.workspaces, session.workspace_root)
  );
}
