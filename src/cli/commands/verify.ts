/**
 * @module
 * `atlas-gate verify`: the verdicts on a bundle, by exit code, for a person or
 * as JSON.
 */
import type { Report, Verdict } from "../../audit/report.ts";
import { parsePolicy } from "../../log/witness-policy.ts";
import { parseBundle } from "../../verify/bundle.ts";
import { parseReceipts } from "../../verify/receipts.ts";
import { type Trust, verifyBundle } from "../../verify/verify-bundle.ts";
import { type Command, type ExitCode, parseCommandLine, UsageError } from "../command.ts";
import { readText, readVkeys } from "../input.ts";
import { openLog } from "../log-source.ts";
import { sha256Bytes } from "../node-hash.ts";

const OPTIONS = {
  vkey: { type: "string", multiple: true },
  log: { type: "string" },
  policy: { type: "string" },
  since: { type: "string" },
  receipts: { type: "string" },
  json: { type: "boolean" },
} as const;

export const verifyCommand: Command = { run };

async function run(args: readonly string[]): Promise<ExitCode> {
  const { values, positionals } = parseCommandLine(args, OPTIONS);
  const [path, ...more] = positionals;
  if (path === undefined || more.length > 0) throw new UsageError("verify takes one bundle");
  const trust: Trust = {
    vkeys: readVkeys(values.vkey),
    policy: values.policy === undefined ? undefined : await readPolicy(values.policy),
    since: values.since === undefined ? undefined : await readText(values.since),
    receipts: values.receipts === undefined ? undefined : await readReceipts(values.receipts),
    log: values.log === undefined ? undefined : await openLog(values.log),
  };
  const parsed = parseBundle(await readText(path));
  if (!parsed.ok) throw new UsageError(`${path}: ${parsed.message}`);
  let report: Report;
  try {
    report = await verifyBundle(parsed.bundle, trust, sha256Bytes);
  } catch (error) {
    // The one thing that a bundle of the right shape can still make impossible.
    if (error instanceof TypeError) throw new UsageError(`${path}: ${error.message}`);
    throw error;
  }
  const code = exitCodeOf(report, trust);
  console.log(values.json === true ? JSON.stringify(report, null, 2) : describe(report, code));
  return code;
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
  if (all.some(({ ok }) => ok === false)) return 1;
  const asked = [integrity];
  if (trust.vkeys !== undefined) asked.push(anchored);
  if (trust.log !== undefined) asked.push(completeness);
  if (trust.policy !== undefined || trust.since !== undefined) asked.push(independence);
  if (report.receipts !== undefined) asked.push(report.receipts);
  return asked.every(({ ok }) => ok === true) ? 0 : 2;
}

const QUESTIONS: Readonly<Record<keyof Report["verdicts"], string>> = {
  integrity: "the records are whole and in order",
  anchored: "the log holds them as they are",
  completeness: "the log holds nothing more of the session",
  independence: "somebody else has seen this log",
  time: "the times are those that witnesses saw",
};

const RESULTS = { 0: "holds", 1: "DOES NOT HOLD", 2: "could not be checked" } as const;

/** Findings shown of one verdict; `--json` has them all. */
const MAX_SHOWN = 20;

function describe(report: Report, code: ExitCode): string {
  const lines = [
    `session    ${report.session_id}`,
    `records    ${report.records}, ${report.unanchored} of them after the newest leaf`,
    `head       ${report.head}`,
  ];
  if (report.open_intents.length > 0) {
    lines.push(`open       calls without a result: ${report.open_intents.join(", ")}`);
  }
  lines.push("");
  for (const [name, verdict] of Object.entries(report.verdicts)) {
    const question = QUESTIONS[name as keyof Report["verdicts"]];
    lines.push(`${wordOf(verdict)}  ${name.padEnd(12)}  ${question}`);
    for (const { seq, code, message } of verdict.findings.slice(0, MAX_SHOWN)) {
      lines.push(`               ${code}${seq === 0 ? "" : ` at record ${seq}`}: ${message}`);
    }
    const left = verdict.findings.length - MAX_SHOWN;
    if (left > 0) lines.push(`               and ${left} more`);
  }
  return [...lines, "", `What was asked for ${RESULTS[code]}.`].join("\n");
}

function wordOf({ ok }: Verdict): string {
  return ok === null ? "-    " : ok ? "true " : "FALSE";
}
