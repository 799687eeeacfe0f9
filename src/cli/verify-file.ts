/**
 * @module
 * Verification of a bundle's file: what it is held against, from options, and
 * what the exit code says.
 */
import type { Report, Verdict } from "../audit/report.ts";
import { parsePolicy } from "../log/witness-policy.ts";
import { type Bundle, parseBundle } from "../verify/bundle.ts";
import { parseReceipts } from "../verify/receipts.ts";
import { type Trust, verifyBundle } from "../verify/verify-bundle.ts";
import { type ExitCode, UsageError } from "./command.ts";
import { readText, readVkeys } from "./input.ts";
import { openLog } from "./log-source.ts";
import { sha256Bytes } from "./node-hash.ts";
import { folderSource } from "./s3/object-source.ts";

/** The options that say what a bundle is held against. */
export const TRUST_OPTIONS = {
  vkey: { type: "string", multiple: true },
  log: { type: "string" },
  policy: { type: "string" },
  since: { type: "string" },
  receipts: { type: "string" },
  segments: { type: "string" },
} as const;

export type TrustValues = {
  readonly vkey?: string[] | undefined;
  readonly log?: string | undefined;
  readonly policy?: string | undefined;
  readonly since?: string | undefined;
  readonly receipts?: string | undefined;
  readonly segments?: string | undefined;
};

export type Verified = {
  readonly bundle: Bundle;
  readonly report: Report;
  readonly code: ExitCode;
};

/** Reads a bundle and all that it is to be held against, and verifies it. */
export async function verifyFile(path: string, values: TrustValues): Promise<Verified> {
  const parsed = parseBundle(await readText(path));
  if (!parsed.ok) throw new UsageError(`${path}: ${parsed.message}`);
  const { bundle } = parsed;
  const trust: Trust = {
    vkeys: readVkeys(values.vkey),
    policy: values.policy === undefined ? undefined : await readPolicy(values.policy),
    since: values.since === undefined ? undefined : await readText(values.since),
    receipts: values.receipts === undefined ? undefined : await readReceipts(values.receipts),
    log: values.log === undefined ? undefined : await openLog(values.log),
    segments:
      values.segments === undefined ? undefined : await readSegments(values.segments, bundle),
  };
  try {
    const report = await verifyBundle(bundle, trust, sha256Bytes);
    return { bundle, report, code: exitCodeOf(report, trust) };
  } catch (error) {
    // The one thing that a bundle of the right shape can still make impossible.
    if (error instanceof TypeError) throw new UsageError(`${path}: ${error.message}`);
    throw error;
  }
}

/** Lines of a session's segments in a folder that is a copy of the bucket; names sort as seqs do. */
async function readSegments(folder: string, { tenant, session_id }: Bundle): Promise<string[]> {
  const source = folderSource(folder);
  const lines: string[] = [];
  for await (const key of source.keys(`audit/${tenant}/`)) {
    if (key.split("/").at(-2) !== session_id) continue;
    const text = new TextDecoder().decode(await source.get(key));
    lines.push(...text.replace(/\n$/, "").split("\n"));
  }
  return lines;
}

async function readPolicy(path: string) {
  const parsed = parsePolicy(await readText(path));
  if (parsed.ok) return parsed.policy;
  throw new UsageError(`${path}: line ${parsed.line}: ${parsed.message}`);
}

async function readReceipts(path: string) {
  const receipts = parseReceipts(await readText(path));
  if (typeof receipts === "string") throw new UsageError(`${path}: ${receipts}`);
  return receipts;
}

/** Something false is 1, wherever it was found; what was asked for and cannot be said is 2. */
export function exitCodeOf(report: Report, trust: Trust): ExitCode {
  if (report.records === 0) return 2;
  const { integrity, anchored, completeness, independence } = report.verdicts;
  const all: Verdict[] = Object.values(report.verdicts);
  if (report.receipts !== undefined) all.push(report.receipts);
  if (report.segments !== undefined) all.push(report.segments);
  if (all.some(({ ok }) => ok === false)) return 1;
  const asked = [integrity];
  if (trust.vkeys !== undefined) asked.push(anchored);
  if (trust.log !== undefined) asked.push(completeness);
  if (trust.policy !== undefined || trust.since !== undefined) asked.push(independence);
  if (report.receipts !== undefined) asked.push(report.receipts);
  if (report.segments !== undefined) asked.push(report.segments);
  return asked.every(({ ok }) => ok === true) ? 0 : 2;
}
