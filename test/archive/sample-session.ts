/**
 * @module
 * Sessions with chains that hold, made without a gateway: what an archive is sent.
 */
import { randomBytes, randomUUID } from "node:crypto";
import type { SessionRow } from "../../src/archive/archive.ts";
import { canonicalJson } from "../../src/audit/canonical.ts";
import { appendRecord, argsStoredHash, emptyHead } from "../../src/audit/chain.ts";
import { sha256Hex } from "../../src/audit/hash-node.ts";
import type { JsonObject, RecordInput, StoredRecord } from "../../src/audit/record.ts";

export type SampleEntry = Partial<
  Pick<
    RecordInput,
    | "event"
    | "tool"
    | "result"
    | "error_code"
    | "plan_hash"
    | "workspace_root"
    | "notes"
    | "context"
  >
> & {
  readonly args?: JsonObject | null;
  readonly at?: number;
};

export type SampleSession = { readonly row: SessionRow; readonly records: StoredRecord[] };

/** A session of `entries`; its row says what the archive holds once all are in. */
export function sampleSession(
  entries: readonly SampleEntry[],
  changes: Partial<SessionRow> & { at?: number } = {},
): SampleSession {
  const { at: startedAt = Date.UTC(2026, 0, 5, 12), ...row } = changes;
  const session_id = row.session_id ?? randomUUID();
  const tenant = row.tenant ?? "default";
  const role = row.role ?? "windsurf";
  const records: StoredRecord[] = [];
  let head = emptyHead(sha256Hex, tenant, session_id);
  for (const [index, { args = null, at, ...entry }] of entries.entries()) {
    const salt = args === null ? null : randomBytes(16).toString("hex");
    const text = args === null ? null : canonicalJson(args);
    const made = appendRecord(
      sha256Hex,
      { tenant, session_id },
      head,
      {
        principal: "key:sample",
        role,
        event: "tool_call",
        tool: null,
        workspace_root: null,
        plan_hash: null,
        result: "ok",
        error_code: null,
        args_hash: null,
        args_stored_hash:
          text === null || salt === null ? null : argsStoredHash(sha256Hex, salt, text),
        result_hash: null,
        intent_seq: null,
        request_id: `r${index}`,
        notes: null,
        context: null,
        ...entry,
      },
      at ?? startedAt + index * 1000,
    );
    head = made.head;
    records.push({ seq: head.seq, line: made.line, hash_chain: head.hash_chain, args: text, salt });
  }
  return {
    row: {
      session_id,
      tenant,
      principal: "key:sample",
      role,
      era: "2025",
      workspace_root: null,
      plan_hash: null,
      created_at: new Date(startedAt).toISOString(),
      last_seen_at: head.timestamp,
      entries: head.seq,
      head: head.hash_chain,
      ended_at: null,
      wrapped_key: "d3JhcHBlZA==",
      ...row,
    },
    records,
  };
}

/** Texts that databases have opinions about. */
export const AWKWARD: readonly SampleEntry[] = [
  { event: "session_open", context: { era: "2025", client: { name: "naïve \u{1F600}", n: -0 } } },
  { tool: "a\u0000b", args: { "k\u0000": "v\u0000w", "\\u0000": "\\u0000", n: 1e21, f: 0.1 } },
  {
    tool: 'it\'s "quoted" \\ \u0001 \u2028',
    args: { deep: [{ a: null }], e: 5e-324, m: 1.7976931348623157e308 },
  },
  { notes: "\ufffd\u0000$1 ? :x %s", context: { "\u0000": ["\u0000"] }, args: {} },
  { tool: "t", args: { b: 1, a: 2, "": [], "10": 1, "9": 1, é: 1, z: { y: true } } },
];
