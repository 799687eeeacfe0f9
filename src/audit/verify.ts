/**
 * @module
 * The portable verifier of a session's export: everything is recomputed from
 * the records, with nothing of the platform, so that the same code runs in the
 * Worker, on a command line and in a browser.
 *
 * It reads record by record and keeps a few values of the last one, and the
 * seqs of intents. It goes on after a bad record in such a way that one change
 * is found where it is, and not again at each record after it: what a damaged
 * record says about others is not believed, and not held against them.
 */
import { canonicalJson } from "./canonical.ts";
import { argsStoredHash, genesis } from "./chain.ts";
import { sha256Hex } from "./hash-portable.ts";
import { intentLedger } from "./intents.ts";
import { isJsonObject, type JsonObject, type JsonValue } from "./json.ts";
import { parseJson } from "./parse-json.ts";
import {
  type AuditRecord,
  type ExportParts,
  isSha256Hex,
  parseCanonical,
  readRecord,
  splitExport,
} from "./record.ts";
import { type Finding, findingList, type Report, type Verdict } from "./report.ts";

export type { Finding, Report, Verdict } from "./report.ts";

/** Which session the records must be of. Without it, the records say so themselves. */
export type VerifyOptions = {
  readonly tenant?: string | undefined;
  readonly session_id?: string | undefined;
};

/** Where a record stands and what its hash is, both as recomputed. */
export type PlacedRecord = {
  readonly seq: number;
  readonly hash: string;
  /** Whether the arguments that its `args_stored_hash` is of are beside it; null where it has none. */
  readonly args: "there" | "absent" | null;
};

export type Verifier = {
  /** The next record: an export line, or its value, which is checked as its RFC 8785 text. */
  push(line: string | object): PlacedRecord | null;
  /** What was found so far. */
  finish(): Report;
};

/** A verifier of one session's records, given in order. */
export function createVerifier(options: VerifyOptions = {}): Verifier {
  const findings = findingList();
  const intents = intentLedger(findings);
  let records = 0;
  /** The seq of the next record, if each line before it was one. */
  let expected = 1;
  /** Unreadable lines just before: each may have been a record, or was put in. */
  let unreadable = 0;
  /** What the next record may link to: the last one's hash as it says and as it is; null if neither is known. */
  let links: readonly string[] | null = [];
  let head: string | null = null;
  let lastTime: string | null = null;
  /** `firm` once an intact record has said it. */
  let identity: { tenant: string; session_id: string; firm: boolean } | null = null;

  function push(line: string | object): PlacedRecord | null {
    records += 1;
    const value = readLine(line);
    if (value === null) {
      intents.damaged(expected);
      expected += 1;
      unreadable += 1;
      return null;
    }
    const { hash_chain: declared, args: _args, salt: _salt, ...body } = value;
    const hash = sha256Hex(canonicalJson(body));
    const seq = placeRecord(body);

    const parts = splitExport(value);
    if (typeof parts === "string") findings.add(seq, "MALFORMED", parts);
    const record = readRecord(body);
    if (typeof record === "string") findings.add(seq, "MALFORMED", record);
    if (declared !== hash) {
      findings.add(seq, "HASH_MISMATCH", "hash_chain is not the hash of the record");
    }
    if (typeof parts !== "string") checkArgs(seq, parts);

    const intact = typeof record !== "string" && declared === hash;
    if (typeof record !== "string") checkIdentity(seq, record, intact);
    if (intact) {
      checkTime(seq, record);
      intents.take(seq, record);
    } else {
      intents.damaged(seq);
    }

    head = hash;
    if (typeof declared === "string" && isSha256Hex(declared)) links = [hash, declared];
    else links = typeof record === "string" ? null : [hash];
    expected = seq + 1;
    unreadable = 0;
    return { seq, hash, args: argsBeside(body, value.args) };
  }

  /** The value of a line, or null when there is no object in it; then its position is reported. */
  function readLine(line: string | object): JsonObject | null {
    const parsed = typeof line === "string" ? parseCanonical(line) : parseObject(line);
    if (!parsed.ok) {
      findings.add(expected, "MALFORMED", `The line is no record: ${parsed.message}`);
      return null;
    }
    if (!isJsonObject(parsed.value)) {
      findings.add(expected, "MALFORMED", "The line is no record: not an object");
      return null;
    }
    if (!parsed.canonical) {
      const at = placeOf(parsed.value).seq;
      findings.add(at, "NOT_CANONICAL", "The line is not in RFC 8785 form, or has a key twice");
    }
    return parsed.value;
  }

  /**
   * Which position a record has. Its own word counts, unless it contradicts
   * its neighbours: a record that links to the one before it stands after it,
   * whatever seq it has been given.
   */
  function placeOf(body: JsonObject): { seq: number; linked: boolean | null } {
    const declared =
      typeof body.seq === "number" && Number.isSafeInteger(body.seq) && body.seq > 0
        ? body.seq
        : null;
    const lowest = expected - unreadable;
    const targets = lowest === 1 ? genesisOf(body) : links;
    const hit = typeof body.prev_hash === "string" && targets?.includes(body.prev_hash) === true;
    if (declared === null || declared < lowest || expected < declared) {
      if (hit) return { seq: lowest, linked: true };
      if (declared !== null) return { seq: declared, linked: false };
    }
    const seq = declared ?? expected;
    // After an unreadable line there is nothing to hold the link against.
    return { seq, linked: targets === null || seq !== lowest ? null : hit };
  }

  function placeRecord(body: JsonObject): number {
    const { seq, linked } = placeOf(body);
    const lowest = expected - unreadable;
    if (seq > expected) {
      findings.add(expected, "SEQ_GAP", `Record ${expected} is missing: ${seq} is in its place`);
    } else if (seq < lowest) {
      findings.add(seq, "SEQ_GAP", `Record ${seq} is repeated or out of order`);
    } else if (typeof body.seq === "number" && body.seq !== seq) {
      findings.add(seq, "SEQ_GAP", `Record ${seq} has been given seq ${body.seq}`);
    }
    if (linked === false && seq === 1 && lowest === 1) {
      findings.add(seq, "GENESIS_MISMATCH", "prev_hash is not the genesis of the record's session");
    } else if (linked === false) {
      findings.add(seq, "LINK_BROKEN", "prev_hash is not the hash of the record before");
    }
    return seq;
  }

  function checkArgs(seq: number, { record, args, salt }: ExportParts): void {
    const declared = record.args_stored_hash;
    const problem = argsProblem(args, salt, typeof declared === "string" ? declared : null);
    if (problem !== null) findings.add(seq, "ARGS_MISMATCH", problem);
  }

  function checkIdentity(seq: number, record: AuditRecord, intact: boolean): void {
    const { tenant, session_id } = record;
    if (identity !== null && (identity.firm || !intact)) {
      if (identity.tenant !== tenant || identity.session_id !== session_id) {
        findings.add(seq, "SESSION_MISMATCH", "The record is of another session than the first");
      }
      return;
    }
    identity = { tenant, session_id, firm: intact };
    if (
      tenant !== (options.tenant ?? tenant) ||
      session_id !== (options.session_id ?? session_id)
    ) {
      findings.add(seq, "SESSION_MISMATCH", "The record is not of the session asked for");
    }
  }

  function checkTime(seq: number, { timestamp }: AuditRecord): void {
    if (lastTime !== null && timestamp < lastTime) {
      findings.add(seq, "TIME_BACKWARDS", `${timestamp} is before the record before, ${lastTime}`);
    }
    lastTime = timestamp;
  }

  function finish(): Report {
    const found: Finding[] =
      records === 0
        ? [{ seq: 0, code: "EMPTY", message: "There is nothing to verify" }]
        : [...findings.list(), ...intents.openAtClose()];
    const unsaid = (): Verdict => ({ ok: null, findings: [] });
    return {
      session_id: identity?.session_id ?? null,
      records,
      head,
      unanchored: records,
      open_intents: intents.open(),
      verdicts: {
        integrity: { ok: found.length === 0, findings: found },
        anchored: unsaid(),
        completeness: unsaid(),
        independence: unsaid(),
        time: unsaid(),
      },
    };
  }

  return { push, finish };
}

/**
 * Verifies a session's export lines. One empty text at the end is what splitting
 * a file at its line feeds leaves, and is no line.
 */
export function verifyLines(lines: Iterable<string>, options: VerifyOptions = {}): Report {
  const verifier = createVerifier(options);
  let held = false;
  for (const line of lines) {
    if (held) verifier.push("");
    held = line === "";
    if (!held) verifier.push(line);
  }
  return verifier.finish();
}

function parseObject(
  value: object,
): { ok: true; canonical: true; value: JsonValue } | { ok: false; message: string } {
  try {
    return { ok: true, canonical: true, value: parseJson(canonicalJson(value)) };
  } catch (error) {
    if (error instanceof TypeError) return { ok: false, message: error.message };
    throw error;
  }
}

function argsBeside({ args_stored_hash }: JsonObject, args: JsonValue | undefined) {
  if (typeof args_stored_hash !== "string") return null;
  return args === null ? "absent" : "there";
}

/** The genesis of the session that a record names, if it names one. */
function genesisOf({ tenant, session_id }: JsonObject): readonly string[] {
  if (typeof tenant !== "string" || typeof session_id !== "string") return [];
  try {
    return [genesis(sha256Hex, tenant, session_id)];
  } catch (error) {
    if (error instanceof TypeError) return [];
    throw error;
  }
}

/** What is wrong with stored arguments; both null is what digests and erasure leave. */
function argsProblem(
  args: JsonObject | null,
  salt: string | null,
  declared: string | null,
): string | null {
  if (args === null && salt === null) return null;
  if (args === null) return "a salt without arguments";
  if (salt === null) return "arguments without a salt";
  if (declared === null) return "arguments that args_stored_hash does not bind";
  return argsStoredHash(sha256Hex, salt, canonicalJson(args)) === declared
    ? null
    : "args_stored_hash is not the hash of the arguments";
}
