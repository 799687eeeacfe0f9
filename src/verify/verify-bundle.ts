/**
 * @module
 * The five verdicts on a session, put together. Everything is recomputed from the
 * records; no key is ever taken from what is verified. Nothing of a platform is
 * used but Web Crypto's Ed25519, so that the same code runs in the Worker,
 * on a command line and in a browser.
 */
import { genesis } from "../audit/chain.ts";
import type { Sha256 } from "../audit/hash.ts";
import { sha256Bytes, sha256Hex } from "../audit/hash-portable.ts";
import { findingList, type Report } from "../audit/report.ts";
import { createVerifier } from "../audit/verify.ts";
import { openCheckpoint } from "../log/checkpoint.ts";
import type { Bundle, BundleLog } from "./bundle.ts";
import type { CheckedRecords, Evidence, SessionLeaf, Trust } from "./evidence.ts";
import { verifyAnchored, withReceipts } from "./verify-anchored.ts";
import { verifyCompleteness } from "./verify-completeness.ts";
import { verifyIndependence } from "./verify-independence.ts";
import { checkReceipts } from "./verify-receipts.ts";
import { checkSegments } from "./verify-segments.ts";
import { verifyTime } from "./verify-time.ts";

export type { Trust } from "./evidence.ts";

const ARGS_NOT_THERE = [
  "ARGS_NOT_THERE",
  "The record's arguments are not there, and no erasure of the session's is shown that took them",
] as const;

/** Verifies records as they come, and then what the log says of them. */
export type SessionVerifier = {
  /** The next record: an export line or its value. */
  push(line: string | object): void;
  /** All five verdicts; `log` is null while nothing is anchored. */
  finish(log: BundleLog | null, trust?: Trust): Promise<Report>;
};

/**
 * A verifier of one session. `hash` may be a faster SHA-256 than the portable one:
 * walking a whole log takes two of them an entry.
 *
 * @throws TypeError for a tenant or session id that no session can have.
 */
export function createSessionVerifier(
  session: { readonly tenant: string; readonly session_id: string },
  hash: Sha256 = sha256Bytes,
): SessionVerifier {
  const { tenant, session_id } = session;
  const verifier = createVerifier({ tenant, session_id });
  const name = genesis(sha256Hex, tenant, session_id);
  /** Null where two records claim one position and differ. */
  const hashes = new Map<number, string | null>();
  let last = 0;
  const withoutArgs = findingList();
  let isAnyArgsThere = false;

  function push(line: string | object): void {
    const placed = verifier.push(line);
    if (placed === null) return;
    const known = hashes.get(placed.seq);
    hashes.set(placed.seq, known === undefined || known === placed.hash ? placed.hash : null);
    last = Math.max(last, placed.seq);
    if (placed.args === "there") isAnyArgsThere = true;
    else if (placed.args === "absent") withoutArgs.add(placed.seq, ...ARGS_NOT_THERE);
  }

  async function finish(log: BundleLog | null, trust: Trust = {}): Promise<Report> {
    const report = verifier.finish();
    const hashAt = (seq: number): string | undefined => hashes.get(seq) ?? undefined;
    const records: CheckedRecords = { session_id, session: name, last, hashAt };
    const keys = trust.vkeys ?? trust.policy?.logs.map(({ key }) => key) ?? [];
    const opened =
      log === null || keys.length === 0 ? null : await openCheckpoint(log.checkpoint, keys);
    const evidence: Evidence = { hash, records, log, trust, keys, opened };
    const anchored = verifyAnchored(evidence);
    const receipts = checkReceipts(records, trust.receipts);
    const completeness = await verifyCompleteness(evidence);
    const { integrity } = report.verdicts;
    const leaves = [...anchored.leaves, ...completeness.leaves];
    // An erasure takes all of a session's arguments: what it does not explain is noted, and nothing is false for it.
    const isErased = !isAnyArgsThere && leaves.some(isErasure);
    const notes = isErased ? [] : withoutArgs.list();
    return {
      ...report,
      session_id,
      unanchored: Math.max(0, report.records - anchored.covered),
      ...(trust.receipts === undefined ? {} : { receipts }),
      ...(trust.segments === undefined
        ? {}
        : { segments: checkSegments(sha256Hex, records, trust.segments) }),
      verdicts: {
        integrity: { ...integrity, findings: [...integrity.findings, ...notes] },
        anchored: withReceipts(anchored.verdict, receipts),
        completeness: completeness.verdict,
        independence: await verifyIndependence(evidence),
        time: await verifyTime(evidence),
      },
    };
  }

  return { push, finish };
}

function isErasure(leaf: SessionLeaf): boolean {
  return leaf.kind === "retire" && leaf.reason === "erasure";
}

/** Verifies a bundle. @throws TypeError for names that no session can have. */
export async function verifyBundle(
  bundle: Bundle,
  trust: Trust = {},
  hash?: Sha256,
): Promise<Report> {
  const verifier = createSessionVerifier(bundle, hash);
  for (const record of bundle.records) verifier.push(record);
  return verifier.finish(bundle.log, trust);
}
