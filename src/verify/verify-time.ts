/**
 * @module
 * Timely: each leaf's time lies between what witnesses said of the last
 * checkpoint without it and of the first with it, so that neither records nor the
 * log were made earlier or later than they claim.
 */
import type { Finding, Verdict } from "../audit/report.ts";
import { checkpointOf, openCheckpoint } from "../log/checkpoint.ts";
import {
  cosignatureTime,
  cosignatureVerifier,
  TIME_TOLERANCE_SECONDS,
} from "../log/cosignature.ts";
import { parseLeaf } from "../log/leaf.ts";
import type { VerifierKey } from "../log/note.ts";
import type { BundleLeaf, BundleLog } from "./bundle.ts";
import { at0, type Evidence, NOT_ANCHORED, unsaid, VKEY_NEEDED } from "./evidence.ts";

export async function verifyTime(evidence: Evidence): Promise<Verdict> {
  const { log, opened, trust } = evidence;
  if (log === null) return unsaid(NOT_ANCHORED);
  if (trust.policy === undefined) {
    return unsaid({
      code: "POLICY_NEEDED",
      message: "No witness is known whose times could count",
    });
  }
  if (opened === null) return unsaid(VKEY_NEEDED);
  const bounds = new Bounds(evidence, log);
  const findings: Finding[] = [];
  let checked = 0;
  for (const leaf of log.leaves) {
    const result = await checkLeaf(leaf, bounds);
    checked += result.checked;
    findings.push(...result.findings);
  }
  if (findings.length > 0) return { ok: false, findings };
  if (checked > 0) return { ok: true, findings };
  return unsaid({
    code: "NO_COSIGNED_TIME",
    message:
      "No checkpoint around the leaves carries the time of a known witness under a key that was given",
  });
}

type Checked = { readonly checked: number; readonly findings: readonly Finding[] };

async function checkLeaf(leaf: BundleLeaf, bounds: Bounds): Promise<Checked> {
  const parsed = parseLeaf(leaf.entry);
  if (parsed === null) return { checked: 0, findings: [] };
  const { index, before, after } = leaf;
  if ((before !== null && before > index) || (after !== null && after <= index)) {
    return { checked: 0, findings: [at0("BOUND_MISPLACED", `Leaf ${index} is not between them`)] };
  }
  const seq = parsed.kind === "key" ? 0 : parsed.seq;
  const seconds = Date.parse(parsed.timestamp) / 1000;
  const [earliest, latest] = [await bounds.timeOf(before), await bounds.timeOf(after)];
  const findings: Finding[] = [];
  for (const bound of [earliest, latest]) {
    if (typeof bound === "string") findings.push(at0("BOUND_NOT_SIGNED", bound));
  }
  if (typeof earliest === "number" && seconds < earliest - TIME_TOLERANCE_SECONDS) {
    const message = `Leaf ${index} says ${parsed.timestamp}; it was not there yet at ${iso(earliest)}`;
    findings.push({ seq, code: "TIME_TOO_EARLY", message });
  }
  if (typeof latest === "number" && seconds > latest + TIME_TOLERANCE_SECONDS) {
    const message = `Leaf ${index} says ${parsed.timestamp}; it was there at ${iso(latest)}`;
    findings.push({ seq, code: "TIME_TOO_LATE", message });
  }
  return { checked: [earliest, latest].filter(Number.isFinite).length, findings };
}

/** When the kept checkpoints were cosigned; each is opened once. */
class Bounds {
  readonly #evidence: Evidence;
  readonly #log: BundleLog;
  readonly #times = new Map<number, number | string | null>();

  constructor(evidence: Evidence, log: BundleLog) {
    this.#evidence = evidence;
    this.#log = log;
  }

  /** Unix seconds of the earliest known cosignature; null when there is none; a text for what is no checkpoint of the log. */
  async timeOf(size: number | null): Promise<number | string | null> {
    const note = size === null ? undefined : this.#log.checkpoints[String(size)];
    if (size === null || note === undefined) return null;
    const known = this.#times.get(size);
    if (known !== undefined) return known;
    const time = await this.#read(size, note);
    this.#times.set(size, time);
    return time;
  }

  async #read(size: number, note: string): Promise<number | string | null> {
    const { keys, trust } = this.#evidence;
    const witnesses = trust.policy?.witnesses ?? [];
    const verifiers = witnesses.map(({ key }) => cosignatureVerifier(key));
    const opened = await openCheckpoint(note, keys, verifiers);
    // Signed under a key of before or after those that were given: as good as not there.
    if (!opened.ok && opened.reason === "no_known_signature" && isNamed(note, size, keys)) {
      return null;
    }
    if (!opened.ok || opened.checkpoint.size !== size) {
      return `What is given as the checkpoint of ${size} is not one of the log`;
    }
    const times = opened.known
      .filter(({ key }) => witnesses.some((witness) => witness.key === key))
      .map(({ signature }) => cosignatureTime(signature))
      .filter((time) => time !== null);
    return times.length === 0 ? null : Math.min(...times);
  }
}

/** Whether a note says that it is the checkpoint of that size of the log that the keys are of. */
function isNamed(note: string, size: number, keys: readonly VerifierKey[]): boolean {
  const claimed = checkpointOf(note);
  return claimed?.size === size && keys.some(({ name }) => name === claimed.origin);
}

/** A cosignature can say a time that is past every date (ECMA-262, Time Values). */
function iso(seconds: number): string {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? `second ${seconds}` : date.toISOString();
}
