/**
 * @module
 * Sessions as their segments in R2 hold them: the records that have left the
 * relational archive, and the copy that it is held against.
 */
import * as z from "zod";
import { canonicalJson } from "../audit/canonical.ts";
import { sha256Hex } from "../audit/hash-node.ts";
import { isJsonObject } from "../audit/json.ts";
import { parseJson } from "../audit/parse-json.ts";
import type { StoredRecord } from "../audit/record.ts";
import { deriveSealKey, openSealed, unwrapSessionKey } from "../audit/seal.ts";
import type { SessionRow } from "./archive.ts";

const DAY_MS = 86_400_000;
const KEY = /^audit\/([^/]+)\/\d{4}\/\d\d\/\d\d\/([0-9a-f-]{36})\/(\d{10})-(\d{10})\.ndjson$/;

export type SegmentName = {
  readonly key: string;
  readonly tenant: string;
  readonly session_id: string;
  readonly first: number;
  readonly last: number;
};

/** Reads a segment's name; null for any other object. */
export function parseSegmentName(key: string): SegmentName | null {
  const [, tenant, session_id, first, last] = KEY.exec(key) ?? [];
  if (tenant === undefined || session_id === undefined) return null;
  return { key, tenant, session_id, first: Number(first), last: Number(last) };
}

/** The key that a session's arguments are sealed under; null once it is erased. */
export function sealKeyOf(
  secretsKey: Uint8Array,
  { session_id, wrapped_key }: Pick<SessionRow, "session_id" | "wrapped_key">,
): Uint8Array | null {
  if (wrapped_key === null) return null;
  return deriveSealKey(unwrapSessionKey(secretsKey, wrapped_key, session_id));
}

/** The segments of a session, in the order of their records. They lie under the days of its life. */
export async function segmentsOf(
  bucket: R2Bucket,
  row: Pick<SessionRow, "tenant" | "session_id" | "created_at" | "last_seen_at" | "ended_at">,
): Promise<SegmentName[]> {
  const names: SegmentName[] = [];
  const end = Date.parse(row.ended_at ?? row.last_seen_at) + DAY_MS;
  const start = Math.floor(Date.parse(row.created_at) / DAY_MS) * DAY_MS;
  for (let day = start; day <= end; day += DAY_MS) {
    const date = new Date(day).toISOString().slice(0, 10).replaceAll("-", "/");
    const prefix = `audit/${row.tenant}/${date}/${row.session_id}/`;
    let cursor: string | undefined;
    do {
      const listed = await bucket.list({ prefix, ...(cursor === undefined ? {} : { cursor }) });
      names.push(...listed.objects.flatMap(({ key }) => parseSegmentName(key) ?? []));
      cursor = listed.truncated ? listed.cursor : undefined;
    } while (cursor !== undefined);
  }
  return names.sort((a, b) => a.first - b.first);
}

/** Reads a segment; arguments are null without the key. Throws when it is not there or is none. */
export async function readSegment(
  bucket: R2Bucket,
  key: string,
  sealKey: Uint8Array | null,
): Promise<StoredRecord[]> {
  const object = await bucket.get(key);
  if (object === null) throw new Error(`The segment ${key} is not there`);
  // Not text(), which warns of a type that does not call itself text.
  const text = new TextDecoder().decode(await object.arrayBuffer());
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => parseSegmentLine(line, sealKey));
}

const lineParts = z.object({ seq: z.int(), hash_chain: z.string(), sealed: z.string() });

function parseSegmentLine(text: string, sealKey: Uint8Array | null): StoredRecord {
  const value = parseJson(text);
  if (!isJsonObject(value)) throw new Error("A line of a segment is not an object");
  const { seq, hash_chain, sealed } = lineParts.parse(value);
  const { hash_chain: _, sealed: __, ...record } = value;
  const line = canonicalJson(record);
  if (sha256Hex(line) !== hash_chain) throw new Error(`Record ${seq} of a segment is not its hash`);
  if (sealKey === null) return { seq, line, hash_chain, args: null, salt: null };
  const { args, salt } = openSealed(sealKey, sealed);
  return { seq, line, hash_chain, args: args === null ? null : canonicalJson(args), salt };
}

const rootOf = z.object({ workspace_root: z.string().nullable() });

/** Pages through a session's segments; the last segment read is kept, for the next page begins in it. */
export class SegmentReader {
  readonly #bucket: R2Bucket;
  readonly #row: SessionRow;
  readonly #sealKey: Uint8Array | null;
  #names: Promise<SegmentName[]> | null = null;
  #kept: { key: string; records: StoredRecord[] } | null = null;

  constructor(bucket: R2Bucket, row: SessionRow, sealKey: Uint8Array | null) {
    this.#bucket = bucket;
    this.#row = row;
    this.#sealKey = sealKey;
  }

  /** Records after a seq, in order, at most `limit`. */
  async page(afterSeq: number, limit: number): Promise<StoredRecord[]> {
    this.#names ??= segmentsOf(this.#bucket, this.#row);
    const page: StoredRecord[] = [];
    for (const { key, last } of await this.#names) {
      if (last <= afterSeq) continue;
      const records = await this.#read(key);
      page.push(...records.filter(({ seq }) => seq > afterSeq));
      if (page.length >= limit) break;
    }
    return page.slice(0, limit);
  }

  /** Every workspace that occurs in the records. */
  async roots(): Promise<string[]> {
    this.#names ??= segmentsOf(this.#bucket, this.#row);
    const roots = new Set<string>();
    for (const { key } of await this.#names) {
      for (const { line } of await this.#read(key)) {
        const { workspace_root } = rootOf.parse(JSON.parse(line));
        if (workspace_root !== null) roots.add(workspace_root);
      }
    }
    return [...roots];
  }

  async #read(key: string): Promise<StoredRecord[]> {
    if (this.#kept?.key === key) return this.#kept.records;
    const records = await readSegment(this.#bucket, key, this.#sealKey);
    this.#kept = { key, records };
    return records;
  }
}
