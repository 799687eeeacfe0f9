/**
 * @module
 * The audit record (version 1): its shape, what an appender supplies, and the
 * line in which it is exported.
 *
 * A record is hashed and stored as its RFC 8785 text, the `line`. Its stored
 * arguments and their salt travel beside it, outside the hash, so that they can
 * be erased without touching the chain.
 */
import * as z from "zod";
import { canonicalJson } from "./canonical.ts";
import { isJsonObject, type JsonObject, type JsonValue } from "./json.ts";
import { parseJson } from "./parse-json.ts";

export type { JsonObject, JsonValue } from "./json.ts";

/** Longest `tool`, in UTF-16 units: upstream tool names come from outside. */
export const MAX_TOOL_UNITS = 256;
/** Longest `notes`, in UTF-16 units. */
export const MAX_NOTES_UNITS = 1024;

const HEX_32_BYTES = /^[0-9a-f]{64}$/;
const HEX_16_BYTES = /^[0-9a-f]{32}$/;
const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** Whether a text is a SHA-256 in lowercase hex. */
export function isSha256Hex(text: string): boolean {
  return HEX_32_BYTES.test(text);
}

/** Whether a text is a point in time as `Date.prototype.toISOString` writes it, years 0 to 9999. */
export function isTimestamp(text: string): boolean {
  if (!TIMESTAMP.test(text)) return false;
  const ms = Date.parse(text);
  // The comparison refuses February 30th, which Date.parse moves to March.
  return !Number.isNaN(ms) && new Date(ms).toISOString() === text;
}

/**
 * Whether a value may be a record's `context`: an object of strings, integers,
 * booleans, null, and objects and arrays of them. Without recursion, for a
 * verifier reads it from outside.
 */
function isContext(value: unknown): value is JsonObject {
  if (!isJsonObject(value)) return false;
  const pending: unknown[] = [value];
  while (pending.length > 0) {
    const item = pending.pop();
    if (typeof item === "number" && !Number.isSafeInteger(item)) return false;
    if (typeof item === "object" && item !== null) {
      for (const member of Object.values(item)) pending.push(member);
    }
  }
  return true;
}

const digest = z.string().regex(HEX_32_BYTES);
const named = z.string().min(1);
/** Names that go into the genesis between line feeds: a line feed inside could imitate another session. */
const lineName = z.string().regex(/^\P{Cc}+$/u);
const position = z.int().min(1);

/** One record, version 1. `event` and `role` are open: readers accept those they do not know. */
export const recordSchema = z.strictObject({
  v: z.literal(1),
  tenant: lineName,
  session_id: lineName,
  seq: position,
  timestamp: z.string().refine(isTimestamp),
  principal: named,
  role: named,
  event: named,
  tool: z.string().max(MAX_TOOL_UNITS).nullable(),
  workspace_root: z.string().nullable(),
  plan_hash: digest.nullable(),
  result: z.enum(["ok", "error", "pending", "input_required"]),
  error_code: named.nullable(),
  args_hash: digest.nullable(),
  args_stored_hash: digest.nullable(),
  result_hash: digest.nullable(),
  intent_seq: position.nullable(),
  request_id: named,
  notes: z.string().max(MAX_NOTES_UNITS).nullable(),
  context: z.custom<JsonObject>(isContext).nullable(),
  prev_hash: digest,
});

export type AuditRecord = z.infer<typeof recordSchema>;

/** What an appender supplies; the chain adds the rest. */
export type RecordInput = Omit<
  AuditRecord,
  "v" | "tenant" | "session_id" | "seq" | "timestamp" | "prev_hash"
>;

/** A record as a session keeps it. `line` is the record's RFC 8785 text, `args` that of the stored arguments. */
export type StoredRecord = {
  seq: number;
  line: string;
  hash_chain: string;
  args: string | null;
  salt: string | null;
};

/** Makes text well-formed and cuts it to `maxUnits` UTF-16 units, never inside a surrogate pair. */
function truncate(text: string, maxUnits: number): string {
  if (text.length <= maxUnits) return text.toWellFormed();
  const cut = text
    .slice(0, maxUnits + 1)
    .toWellFormed()
    .slice(0, maxUnits);
  // In well-formed text a high surrogate at the end has just lost its partner.
  return cut.isWellFormed() ? cut : cut.slice(0, -1);
}

/** A tool's name as a record holds it. */
export function truncateTool(tool: string): string {
  return truncate(tool, MAX_TOOL_UNITS);
}

/** Notes as a record holds them. */
export function truncateNotes(notes: string): string {
  return truncate(notes, MAX_NOTES_UNITS);
}

/**
 * Puts a member into a record's line before the top-level member `key`, which
 * must come after `context` in the line.
 *
 * The text searched for is `,"key":`. A quote inside a JSON string is always
 * written `\"`, so a quote that follows a comma opens or closes a string; one
 * that closes is followed by a delimiter, not by a letter. So each hit is
 * the key of a member, whatever notes, tool or any other string hold. Of the
 * record's members only `context` is not a scalar, and it comes before `key`;
 * so the last hit is the record's own.
 */
function insertBefore(line: string, key: "intent_seq" | "seq", member: string): string {
  const at = line.lastIndexOf(`,"${key}":`);
  if (at === -1) throw new TypeError(`Not the line of a record: no "${key}"`);
  return `${line.slice(0, at)},${member}${line.slice(at)}`;
}

/** A record's line with `hash_chain`, and `member` (a name between `role` and `seq`), spliced in. */
export function composeLine(stored: StoredRecord, member: string): string {
  const withMember = insertBefore(stored.line, "seq", member);
  return insertBefore(withMember, "intent_seq", `"hash_chain":"${stored.hash_chain}"`);
}

/**
 * The export line: the RFC 8785 text of the record with `hash_chain`, `args`
 * and `salt` added. Text is spliced, nothing is parsed: exports and flushes run
 * this for each record. It trusts `stored`, which the chain has written.
 */
export function exportLine(stored: StoredRecord): string {
  const salt = stored.salt === null ? "null" : `"${stored.salt}"`;
  // "args" sorts before "args_hash", a record's first key.
  return `{"args":${stored.args ?? "null"},${composeLine(stored, `"salt":${salt}`).slice(1)}`;
}

/** An export line taken apart: the record's members, of any shape, and what travels beside them. */
export type ExportParts = {
  record: JsonObject;
  hash_chain: string;
  args: JsonObject | null;
  salt: string | null;
};

/** Takes an export line's value apart; a text says what is wrong with what is not the record's. */
export function splitExport(value: JsonObject): ExportParts | string {
  const { hash_chain, args, salt, ...record } = value;
  if (typeof hash_chain !== "string" || !isSha256Hex(hash_chain)) {
    return "hash_chain is not a SHA-256 in lowercase hex";
  }
  if (args !== null && !isJsonObject(args)) return "args is neither an object nor null";
  if (salt !== null && (typeof salt !== "string" || !HEX_16_BYTES.test(salt))) {
    return "salt is neither 32 lowercase hex digits nor null";
  }
  return { record, hash_chain, args, salt };
}

/** Checks a record's shape; a text says what is wrong. */
export function readRecord(value: JsonObject): AuditRecord | string {
  const parsed = recordSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  if (issue === undefined) return "not a record of version 1";
  const path = issue.path.join(".");
  return path === "" ? issue.message : `${path}: ${issue.message}`;
}

/**
 * Reads a line of JSON that must be in RFC 8785 form. Comparing with the
 * canonical text also refuses duplicate keys, of which a parser keeps only
 * the last. A value that is not in that form is returned all the same, for a
 * verifier that goes on.
 */
export function parseCanonical(
  text: string,
): { ok: true; canonical: boolean; value: JsonValue } | { ok: false; message: string } {
  try {
    const value = parseJson(text);
    return { ok: true, canonical: canonicalJson(value) === text, value };
  } catch (error) {
    if (error instanceof SyntaxError) return { ok: false, message: "not JSON" };
    if (error instanceof TypeError) return { ok: false, message: error.message };
    throw error;
  }
}

export type ParsedExport =
  | { ok: true; record: AuditRecord; stored: StoredRecord }
  | { ok: false; code: "MALFORMED" | "NOT_CANONICAL"; message: string };

/** The strict inverse of {@link exportLine}. It checks form only: for hashes and links see `verify.ts`. */
export function parseExportLine(text: string): ParsedExport {
  const parsed = parseCanonical(text);
  if (!parsed.ok) return { ok: false, code: "MALFORMED", message: parsed.message };
  if (!parsed.canonical) {
    return { ok: false, code: "NOT_CANONICAL", message: "not in RFC 8785 form, or a key twice" };
  }
  if (!isJsonObject(parsed.value)) {
    return { ok: false, code: "MALFORMED", message: "not an object" };
  }
  const parts = splitExport(parsed.value);
  if (typeof parts === "string") return { ok: false, code: "MALFORMED", message: parts };
  const record = readRecord(parts.record);
  if (typeof record === "string") return { ok: false, code: "MALFORMED", message: record };
  const { hash_chain, args, salt } = parts;
  const stored: StoredRecord = {
    seq: record.seq,
    line: canonicalJson(parts.record),
    hash_chain,
    args: args === null ? null : canonicalJson(args),
    salt,
  };
  return { ok: true, record, stored };
}
