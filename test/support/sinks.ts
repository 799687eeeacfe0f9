/**
 * @module
 * What the sinks hold of a session: its rows in D1, its segments in R2 with
 * what is sealed in them, opened with nothing but the archive's wrapped key.
 */

import { env } from "cloudflare:workers";
import { createHmac } from "node:crypto";
import * as z from "zod";
import { unwrapSessionKey } from "../../src/audit/seal.ts";
import type { SinkName } from "../../src/session/store.ts";
import { inSession } from "./objects.ts";

const column = z.union([z.string(), z.number(), z.null()]);
const row = z.record(z.string(), column);
export type Row = z.infer<typeof row>;

async function rows(query: string, ...bound: (string | number)[]): Promise<Row[]> {
  const { results } = await env.ARCHIVE_DB.prepare(query)
    .bind(...bound)
    .all();
  return z.array(row).parse(results);
}

/** The session's rows of `audit_log`, by seq. */
export function archiveRows(sessionId: string): Promise<Row[]> {
  return rows("SELECT * FROM audit_log WHERE session_id = ? ORDER BY seq", sessionId);
}

export async function sessionRow(sessionId: string): Promise<Row | null> {
  return (await rows("SELECT * FROM sessions WHERE session_id = ?", sessionId))[0] ?? null;
}

export type Segment = { key: string; text: string; etag: string; uploaded: number };

/** The session's segments in R2, by key. */
export async function segments(sessionId: string): Promise<Segment[]> {
  const found: Segment[] = [];
  const listed = await env.BUCKET.list({ prefix: "audit/" });
  for (const { key } of listed.objects) {
    if (!key.includes(`/${sessionId}/`)) continue;
    const object = await env.BUCKET.get(key);
    if (object === null) throw new Error(`${key} is gone`);
    const text = new TextDecoder().decode(await object.arrayBuffer());
    found.push({ key, text, etag: object.etag, uploaded: object.uploaded.getTime() });
  }
  return found;
}

/** The lines of all segments, in the order of their keys, as values. */
export async function segmentLines(sessionId: string): Promise<Record<string, unknown>[]> {
  const line = z.record(z.string(), z.unknown());
  return (await segments(sessionId)).flatMap(({ text }) =>
    text
      .trimEnd()
      .split("\n")
      .map((json) => line.parse(JSON.parse(json))),
  );
}

/** Opens what a segment's line has sealed, by the specification and with Web Crypto. */
export async function opened(
  sessionId: string,
  line: Record<string, unknown>,
): Promise<{ nonce: string; text: string }> {
  const wrapped = z.string().parse((await sessionRow(sessionId))?.wrapped_key);
  const secrets = Uint8Array.from(Buffer.from(env.SECRETS_KEY, "base64"));
  const key = unwrapSessionKey(secrets, wrapped, sessionId);
  const sealKey = await crypto.subtle.importKey(
    "raw",
    createHmac("sha256", key).update("seal").digest(),
    "AES-GCM",
    false,
    ["decrypt"],
  );
  const bytes = Buffer.from(z.string().parse(line.sealed), "base64");
  const iv = bytes.subarray(0, 12);
  const plain = await crypto.subtle.decrypt({ name: "AES-GCM", iv }, sealKey, bytes.subarray(12));
  return { nonce: iv.toString("hex"), text: new TextDecoder().decode(plain) };
}

export type SinkRow = {
  sink: string;
  cursor: number;
  failures: number;
  pending_last: number | null;
};

export async function sinkState(sessionId: string, sink: SinkName): Promise<SinkRow> {
  return inSession(sessionId, (sql) =>
    sql.exec<SinkRow>("SELECT * FROM sinks WHERE sink = ?", sink).one(),
  );
}

/** When a sink is due, Unix ms, or null. */
export async function dueTime(sessionId: string, what: string): Promise<number | null> {
  const due = await inSession(sessionId, (sql) =>
    sql.exec<{ at: number }>("SELECT at FROM due WHERE what = ?", what).toArray(),
  );
  return due[0]?.at ?? null;
}

export function conflicts(sessionId: string): Promise<{ sink: string; seq: number }[]> {
  return inSession(sessionId, (sql) =>
    sql
      .exec<{ sink: string; seq: number }>("SELECT sink, seq FROM conflicts ORDER BY sink, seq")
      .toArray(),
  );
}
