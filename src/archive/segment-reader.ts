/**
 * @module
 * Sessions as their segments in R2 hold them: the records that have left the
 * relational archive, and the copy that it is held against.
 */
import * as z from "zod";
import { canonicalJson } from "../audit/canonical.ts";
import { argsStoredHash } from "../audit/chain.ts";
import { sha256Hex } from "../audit/hash-node.ts";
import { isJsonObject, type JsonObject } from "../audit/json.ts";
import { isSha256Hex, parseCanonical, type StoredRecord } from "../audit/record.ts";
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

/**
 * The key that a session's arguments are sealed under; null once it is erased, and where
 * what stands in its place is no key: its records can be read all the same.
 */
export function sealKeyOf(
  secretsKey: Uint8Array,
  { session_id, wrapped_key }: Pick<SessionRow, "session_id" | "wrapped_key">,
): Uint8Array | null {
  if (wrapped_key === null) return null;
  try {
    return deriveSealKey(unwrapSessionKey(secretsKey, wrapped_key, session_id));
  } catch {
    return null;
  }
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

/**
 * A line of a segment. `record`: it is the record of its hash; `problem` then says what is
 * wrong with the arguments sealed in it. `damaged`: it is not, and `stored` is what can be
 * read of it, at the place where it stands.
 */
export type SegmentLine =
  | { readonly kind: "record"; readonly stored: StoredRecord; readonly problem: string | null }
  | { readonly kind: "damaged"; readonly stored: StoredRecord; readonly problem: string };

/**
 * Reads a segment line by line, whatever became of them; arguments are null without the key.
 *
 * @throws Error when R2 does not answer, or the segment is not there
 */
export async function readSegment(
  bucket: R2Bucket,
  { key, first }: Pick<SegmentName, "key" | "first">,
  sealKey: Uint8Array | null,
): Promise<SegmentLine[]> {
  const object = await bucket.get(key);
  if (object === null) throw new Error(`The segment ${key} is not there`);
  // Not text(), which warns of a type that does not call itself text.
  const text = new TextDecoder().decode(await object.arrayBuffer());
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line, i) => readLine(line, first + i, sealKey));
}

const lineParts = z.object({
  seq: z.int(),
  hash_chain: z.string().refine(isSha256Hex),
  sealed: z.string(),
});

function readLine(text: string, place: number, sealKey: Uint8Array | null): SegmentLine {
  const parsed = parseCanonical(text);
  const parts = parsed.ok && parsed.canonical ? lineParts.safeParse(parsed.value) : null;
  if (parts?.success !== true || !parsed.ok || !isJsonObject(parsed.value)) {
    const stored = { seq: place, line: text, hash_chain: "", args: null, salt: null };
    return { kind: "damaged", stored, problem: "it is no line of a segment" };
  }
  const { seq, hash_chain, sealed } = parts.data;
  const { hash_chain: _, sealed: __, ...record } = parsed.value;
  const line = canonicalJson(record);
  const { args, salt, problem } = openLine(sealKey, sealed, record);
  if (sha256Hex(line) !== hash_chain) {
    const stored = { seq: place, line, hash_chain, args, salt };
    return { kind: "damaged", stored, problem: "it is not its hash" };
  }
  return { kind: "record", stored: { seq, line, hash_chain, args, salt }, problem };
}

type Opened = Pick<StoredRecord, "args" | "salt"> & { readonly problem: string | null };

/** A record's hash does not cover what is sealed, only the hash of the arguments in it. */
function openLine(sealKey: Uint8Array | null, sealed: string, record: JsonObject): Opened {
  const none = { args: null, salt: null };
  if (sealKey === null) return { ...none, problem: null };
  try {
    const { args, salt } = openSealed(sealKey, sealed);
    if (args === null && salt === null) return { ...none, problem: null };
    const text = canonicalJson(args);
    const isBound =
      isJsonObject(args) &&
      salt !== null &&
      argsStoredHash(sha256Hex, salt, text) === record.args_stored_hash;
    const problem = isBound ? null : "the arguments sealed in it are not the record's";
    return { args: args === null ? null : text, salt, problem };
  } catch {
    return { ...none, problem: "what is sealed in it cannot be opened" };
  }
}

const rootOf = z.object({ workspace_root: z.string().nullable() });
/** What cannot be read may be of any workspace: no narrowed key's glob fits this. */
const UNKNOWN_ROOT = "";

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
    for (const name of await this.#names) {
      if (name.last <= afterSeq) continue;
      const records = await this.#read(name);
      page.push(...records.filter(({ seq }) => seq > afterSeq));
      if (page.length >= limit) break;
    }
    return page.slice(0, limit);
  }

  /** Every workspace that occurs in the records. */
  async roots(): Promise<string[]> {
    this.#names ??= segmentsOf(this.#bucket, this.#row);
    const roots = new Set<string>();
    for (const name of await this.#names) {
      for (const { line } of await this.#read(name)) {
        const parsed = parseCanonical(line);
        const known = parsed.ok ? rootOf.safeParse(parsed.value).data : undefined;
        const root = known === undefined ? UNKNOWN_ROOT : known.workspace_root;
        if (root !== null) roots.add(root);
      }
    }
    return [...roots];
  }

  /** Every line at its place, damaged ones too: for a verifier to find. */
  async #read({ key, first }: SegmentName): Promise<StoredRecord[]> {
    if (this.#kept?.key === key) return this.#kept.records;
    const lines = await readSegment(this.#bucket, { key, first }, this.#sealKey);
    const records = lines.map(({ stored }, i) => ({ ...stored, seq: first + i }));
    this.#kept = { key, records };
    return records;
  }
}
