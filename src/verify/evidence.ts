/**
 * @module
 * What the verdicts work on: the records as they were recomputed, the log's
 * part of the bundle, and what the verifier was given from elsewhere.
 */
import type { Sha256 } from "../audit/hash.ts";
import type { Finding, Verdict } from "../audit/report.ts";
import type { OpenedCheckpoint } from "../log/checkpoint.ts";
import type { HeadLeaf, RetireLeaf } from "../log/leaf.ts";
import type { VerifierKey } from "../log/note.ts";
import type { LogReader } from "../log/reader.ts";
import type { WitnessPolicy } from "../log/witness-policy.ts";
import type { BundleLog } from "./bundle.ts";
import type { Receipt } from "./receipts.ts";

/** A session's records after the integrity check: no declared value is in it. */
export type CheckedRecords = {
  readonly session_id: string;
  /** The genesis of the session's name: what leaves call the session. */
  readonly session: string;
  /** The highest position that a record has. */
  readonly last: number;
  /** The recomputed hash of the record at a position; undefined where none is, or several that differ. */
  readonly hashAt: (seq: number) => string | undefined;
};

/** A leaf of a session. */
export type SessionLeaf = HeadLeaf | RetireLeaf;

/** A verdict by what the log has of the session. */
export type Judged = {
  readonly verdict: Verdict;
  /** The session's leaves that it was shown to have, in its order. */
  readonly leaves: readonly SessionLeaf[];
};

/** What comes from outside the bundle: the only source of keys. */
export type Trust = {
  /** The log's keys. */
  readonly vkeys?: readonly VerifierKey[] | undefined;
  readonly policy?: WitnessPolicy | undefined;
  /** A signed checkpoint that the verifier kept from earlier. */
  readonly since?: string | undefined;
  readonly receipts?: readonly Receipt[] | undefined;
  readonly log?: LogReader | undefined;
  /** Lines of the session's segments, in order. */
  readonly segments?: readonly string[] | undefined;
};

export type Evidence = {
  readonly hash: Sha256;
  readonly records: CheckedRecords;
  readonly log: BundleLog | null;
  readonly trust: Trust;
  /** Keys of the log, from `vkeys`, else from the policy. */
  readonly keys: readonly VerifierKey[];
  /** The bundle's checkpoint under those keys; null without a log or a key. */
  readonly opened: OpenedCheckpoint | null;
};

type Note = Omit<Finding, "seq">;

/** A verdict that cannot be given, and why. */
export function unsaid(...notes: readonly Note[]): Verdict {
  return { ok: null, findings: notes.map((note) => ({ seq: 0, ...note })) };
}

/** What is judged before a leaf has been seen. */
export function withoutLeaves(verdict: Verdict): Judged {
  return { verdict, leaves: [] };
}

export const VKEY_NEEDED: Note = {
  code: "VKEY_NEEDED",
  message: "No key of the log was given: what the evidence itself names is not trusted",
};
export const NOT_ANCHORED: Note = {
  code: "NOT_ANCHORED",
  message: "The bundle holds nothing from a log",
};

/** Why a checkpoint did not open. */
export function refusedCheckpoint(which: string, { reason }: { readonly reason: string }): Finding {
  switch (reason) {
    case "no_known_signature":
      return at0("CHECKPOINT_UNKNOWN_KEY", `${which} is not signed by a key that was given`);
    case "bad_signature":
      return at0("CHECKPOINT_BAD_SIGNATURE", `${which} has a signature that does not hold`);
    case "other_origin":
      return at0("CHECKPOINT_OTHER_ORIGIN", `${which} is another log's than its key`);
    default:
      return at0("CHECKPOINT_MALFORMED", `${which} is no signed checkpoint`);
  }
}

/** A finding about the bundle as a whole. */
export function at0(code: string, message: string): Finding {
  return { seq: 0, code, message };
}
