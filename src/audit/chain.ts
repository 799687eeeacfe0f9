/**
 * @module
 * The chain of a session's records: each holds the hash of the one before it,
 * the first that of the session's own name. Synchronous and without a clock.
 */
import { canonicalJson } from "./canonical.ts";
import type { Sha256Hex } from "./hash.ts";
import { copyJson, type JsonObject, WELL_FORMED } from "./json.ts";
import { isSha256Hex, type RecordInput, truncateNotes, truncateTool } from "./record.ts";

/** Where a chain ends: what the next record builds on. */
export type Head = { seq: number; hash_chain: string; timestamp: string };

const CONTROL_CHARACTER = /\p{Cc}/u;

/**
 * What a session's first record links to: the hash of the session's name, so
 * that no chain can be passed off as another's.
 *
 * @throws TypeError for an empty name, and for control characters: a line feed
 * inside a name could imitate another session's.
 */
export function genesis(hash: Sha256Hex, tenant: string, sessionId: string): string {
  for (const name of [tenant, sessionId]) {
    if (name === "" || CONTROL_CHARACTER.test(name) || !name.isWellFormed()) {
      throw new TypeError("A tenant or session id is empty or holds control characters");
    }
  }
  return hash(`atlas-gate/chain/v1\n${tenant}\n${sessionId}\n`);
}

/** The head of a session that has no record yet. */
export function emptyHead(hash: Sha256Hex, tenant: string, sessionId: string): Head {
  return {
    seq: 0,
    hash_chain: genesis(hash, tenant, sessionId),
    timestamp: "1970-01-01T00:00:00.000Z",
  };
}

/**
 * Makes the next record: its RFC 8785 text and the head that it leaves.
 *
 * Text from outside is made well-formed, and `tool` and `notes` are cut to
 * their limits, so that a call can always be recorded. The rest of the input is
 * the gateway's own.
 *
 * @throws TypeError for an input that no verifier would accept: an empty
 * principal, role, event, request id or error code, a hash that is not
 * lowercase hex, an `intent_seq` that names no earlier record, a number in
 * `context` that is not an integer.
 * @throws RangeError for a time that is no date.
 */
export function appendRecord(
  hash: Sha256Hex,
  session: { readonly tenant: string; readonly session_id: string },
  head: Head,
  input: RecordInput,
  nowMs: number,
): { line: string; head: Head } {
  const seq = head.seq + 1;
  refuseBadInput(input, seq);
  const now = new Date(nowMs).toISOString();
  const timestamp = now > head.timestamp ? now : head.timestamp;

  // The keys are in RFC 8785 order, in which JSON.stringify keeps them; for
  // well-formed strings, integers and null its text is the canonical one. Only
  // `context` has keys of its own to sort, and what comes before it is hex or null.
  const tail = JSON.stringify({
    error_code: wellFormed(input.error_code),
    event: input.event.toWellFormed(),
    intent_seq: input.intent_seq,
    notes: input.notes === null ? null : truncateNotes(input.notes),
    plan_hash: input.plan_hash,
    prev_hash: head.hash_chain,
    principal: input.principal.toWellFormed(),
    request_id: input.request_id.toWellFormed(),
    result: input.result,
    result_hash: input.result_hash,
    role: input.role.toWellFormed(),
    seq,
    session_id: session.session_id,
    tenant: session.tenant,
    timestamp,
    tool: input.tool === null ? null : truncateTool(input.tool),
    v: 1,
    workspace_root: wellFormed(input.workspace_root),
  });
  const args = `"args_hash":${hexText(input.args_hash)},"args_stored_hash":${hexText(input.args_stored_hash)}`;
  const line = `{${args},"context":${contextText(input.context)},${tail.slice(1)}`;
  return { line, head: { seq, hash_chain: hash(line), timestamp } };
}

/**
 * The hash that binds stored arguments into a record: hex SHA-256 of the salt's
 * bytes and then the UTF-8 of their RFC 8785 text. The salt keeps short
 * arguments from being guessed once they are erased.
 *
 * @throws TypeError for a salt that is not whole bytes of hex.
 */
export function argsStoredHash(hash: Sha256Hex, saltHex: string, argsCanonical: string): string {
  if (!/^(?:[0-9a-f]{2})+$/.test(saltHex)) throw new TypeError("The salt is not lowercase hex");
  const salt = saltHex.length / 2;
  const text = new TextEncoder().encode(argsCanonical);
  const bytes = new Uint8Array(salt + text.length);
  for (let i = 0; i < salt; i++) bytes[i] = Number.parseInt(saltHex.slice(2 * i, 2 * i + 2), 16);
  bytes.set(text, salt);
  return hash(bytes);
}

function refuseBadInput(input: RecordInput, seq: number): void {
  const { principal, role, event, request_id, error_code, intent_seq } = input;
  if (principal === "" || role === "" || event === "" || request_id === "" || error_code === "") {
    throw new TypeError(
      "A record needs a principal, role, event and request id that say something",
    );
  }
  for (const digest of [
    input.plan_hash,
    input.args_hash,
    input.args_stored_hash,
    input.result_hash,
  ]) {
    if (digest !== null && !isSha256Hex(digest)) throw new TypeError("A hash is not lowercase hex");
  }
  if (
    intent_seq !== null &&
    !(Number.isInteger(intent_seq) && 0 < intent_seq && intent_seq < seq)
  ) {
    throw new TypeError("intent_seq does not name an earlier record");
  }
}

function wellFormed(text: string | null): string | null {
  return text === null ? null : text.toWellFormed();
}

function hexText(digest: string | null): string {
  return digest === null ? "null" : `"${digest}"`;
}

function contextText(context: JsonObject | null): string {
  return context === null
    ? "null"
    : canonicalJson(copyJson(context, { ...WELL_FORMED, number: integer }));
}

/** Fractions and large numbers are read differently by different programs; a record has none. */
function integer(value: number): number {
  if (!Number.isSafeInteger(value)) throw new TypeError("A number in a context is not an integer");
  return value;
}
