/**
 * @module
 * The chain of one session: its head in memory, one INSERT a record, and no
 * `await` between reading the head and writing the row. An `await` there would
 * let a second call append to the same head, and the chain would fork.
 */
import * as z from "zod";
import { canonicalJson } from "../audit/canonical.ts";
import { appendRecord, argsStoredHash, emptyHead, type Head } from "../audit/chain.ts";
import { hmacSha256Hex, sha256Hex } from "../audit/hash-node.ts";
import type { JsonObject } from "../audit/record.ts";
import { storeArgs } from "../audit/redact.ts";
import { deriveHashKey } from "../audit/seal.ts";
import type { SessionState } from "./state.ts";
import type { SessionStore } from "./store.ts";

const SALT_BYTES = 16;

/** What a caller says of an event; the ledger adds whose, where in the chain, and the hashes. */
export type Entry = {
  readonly event: string;
  readonly tool?: string | null;
  readonly result: "ok" | "error" | "pending" | "input_required";
  readonly error_code?: string | null;
  readonly plan_hash?: string | null;
  /** The session's own when left out. */
  readonly workspace_root?: string | null;
  readonly args?: JsonObject | null;
  /** Top-level arguments that are file contents, recorded by their size. */
  readonly contentKeys?: readonly string[];
  /** The RFC 8785 form of the result as sent, without `_meta`. */
  readonly result_text?: string | null;
  readonly request_id: string;
  readonly notes?: string | null;
  readonly context?: JsonObject | null;
};

export type Receipt = { session_id: string; seq: number; hash_chain: string };

/** What is kept of an intent until its result is recorded, so that a later life of the object can close it. */
export type IntentNote = {
  readonly event: string;
  readonly result_event: string;
  readonly tool: string | null;
  readonly workspace_root: string | null;
  readonly plan_hash: string | null;
  readonly request_id: string;
  /** The upstream that is called; nobody else can say how such a call ended. */
  readonly upstream: string | null;
};

/** The same as it is stored: with the role of the caller, in which the result is recorded too. */
export type OpenIntent = IntentNote & {
  /** Null where it was stored without one: it is the session's. */
  readonly role: string | null;
};

export class Ledger {
  readonly #store: SessionStore;
  readonly #storage: DurableObjectStorage;
  readonly #state: () => SessionState;
  readonly #hashKey: Uint8Array;
  readonly #auditArgs: "redacted" | "digest" | "full";
  #head: Head;
  #lastSize = 0;

  constructor(options: {
    store: SessionStore;
    storage: DurableObjectStorage;
    state: () => SessionState;
    sessionKey: Uint8Array;
    auditArgs: "redacted" | "digest" | "full";
  }) {
    this.#store = options.store;
    this.#storage = options.storage;
    this.#state = options.state;
    this.#hashKey = deriveHashKey(options.sessionKey);
    this.#auditArgs = options.auditArgs;
    this.#head = this.#loadHead();
  }

  get head(): Head {
    return this.#head;
  }

  /** Characters of the last appended record and its stored arguments. */
  get lastSize(): number {
    return this.#lastSize;
  }

  /**
   * Appends one record; it is durable before any answer or call leaves the object.
   *
   * @param role the caller's, which is the session's own except on an ambient session
   */
  append(role: string, entry: Entry, intentSeq: number | null = null): Receipt {
    const state = this.#state();
    const args = entry.args ?? null;
    const stored =
      args === null
        ? null
        : storeArgs(this.#auditArgs, args, { contentKeys: entry.contentKeys ?? [] });
    const salt = stored === null ? null : randomHex(SALT_BYTES);
    const { line, head } = appendRecord(
      sha256Hex,
      state,
      this.#head,
      {
        principal: state.principal,
        role,
        event: entry.event,
        tool: entry.tool ?? null,
        workspace_root:
          entry.workspace_root === undefined ? state.workspace_root : entry.workspace_root,
        plan_hash: entry.plan_hash ?? null,
        result: entry.result,
        error_code: entry.error_code ?? null,
        args_hash: args === null ? null : hmacSha256Hex(this.#hashKey, canonicalJson(args)),
        args_stored_hash:
          stored === null || salt === null ? null : argsStoredHash(sha256Hex, salt, stored),
        result_hash:
          entry.result_text == null ? null : hmacSha256Hex(this.#hashKey, entry.result_text),
        intent_seq: intentSeq,
        request_id: entry.request_id,
        notes: entry.notes ?? null,
        context: entry.context ?? null,
      },
      Date.now(),
    );
    this.#store.append({
      seq: head.seq,
      line,
      hash_chain: head.hash_chain,
      args: stored,
      salt,
    });
    this.#head = head;
    this.#lastSize = line.length + (stored?.length ?? 0);
    return { session_id: state.session_id, seq: head.seq, hash_chain: head.hash_chain };
  }

  /** Appends a pending record and remembers it as open, in one transaction. */
  intent(role: string, entry: Omit<Entry, "result">, note: IntentNote): Receipt {
    const open: OpenIntent = { ...note, role };
    return this.#both(() => {
      const receipt = this.append(role, { ...entry, result: "pending" });
      this.#store.openIntent(receipt.seq, JSON.stringify(open));
      return receipt;
    });
  }

  /** Appends the one result of an intent and closes it, in one transaction. */
  result(role: string, intentSeq: number, entry: Entry): Receipt {
    return this.#both(() => {
      if (!this.#store.isOpen(intentSeq)) throw new Error(`the intent ${intentSeq} is closed`);
      const receipt = this.append(role, entry, intentSeq);
      this.#store.closeIntent(intentSeq);
      return receipt;
    });
  }

  /** Appends a record together with a change of the session's state, which comes last. */
  appendWith(role: string, entry: Entry, change: () => void): Receipt {
    return this.#both(() => {
      const receipt = this.append(role, entry);
      change();
      return receipt;
    });
  }

  /** Two statements that must agree: a throw takes both back, and the head with them. */
  #both(work: () => Receipt): Receipt {
    const before = this.#head;
    try {
      return this.#storage.transactionSync(work);
    } catch (error) {
      this.#head = before;
      throw error;
    }
  }

  #loadHead(): Head {
    const { tenant, session_id } = this.#state();
    const last = this.#store.lastRecord();
    if (last === null) return emptyHead(sha256Hex, tenant, session_id);
    return { seq: last.seq, hash_chain: last.hash_chain, timestamp: recordTimestamp(last.line) };
  }
}

function randomHex(bytes: number): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(bytes))).toString("hex");
}

const lineTimestamp = z.object({ timestamp: z.string() });

/** The timestamp of a stored record line. */
export function recordTimestamp(line: string): string {
  return lineTimestamp.parse(JSON.parse(line)).timestamp;
}
