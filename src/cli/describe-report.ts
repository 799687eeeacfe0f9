/**
 * @module
 * A verification's report for a person.
 */
import type { Report, Verdict } from "../audit/report.ts";
import type { ExitCode } from "./command.ts";

const QUESTIONS: readonly (readonly [keyof Report["verdicts"] | "segments", string])[] = [
  ["integrity", "the records are whole and in order"],
  ["anchored", "the log holds them as they are"],
  ["completeness", "the log holds nothing more of the session"],
  ["independence", "somebody else has seen this log"],
  ["time", "the times are those that witnesses saw"],
  ["segments", "the bucket's segments are the same records"],
];

const RESULTS = { 0: "holds", 1: "DOES NOT HOLD", 2: "could not be checked" } as const;

/** Findings shown of one verdict; `--json` has them all. */
const MAX_SHOWN = 20;

/** The report for a person. */
export function describeReport(report: Report, code: ExitCode): string {
  const lines = [
    `session    ${report.session_id}`,
    `records    ${report.records}, ${report.unanchored} of them after the newest leaf`,
    `head       ${report.head}`,
  ];
  if (report.open_intents.length > 0) {
    lines.push(`open       calls without a result: ${report.open_intents.join(", ")}`);
  }
  lines.push("");
  const { verdicts, segments } = report;
  for (const [name, question] of QUESTIONS) {
    const verdict = name === "segments" ? segments : verdicts[name];
    if (verdict === undefined) continue;
    const limit = name === "anchored" && verdict.ok === true ? limitOf(report) : "";
    lines.push(`${wordOf(verdict)}  ${name.padEnd(12)}  ${question}${limit}`);
    for (const { seq, code, message } of verdict.findings.slice(0, MAX_SHOWN)) {
      lines.push(`               ${code}${seq === 0 ? "" : ` at record ${seq}`}: ${message}`);
    }
    const left = verdict.findings.length - MAX_SHOWN;
    if (left > 0) lines.push(`               and ${left} more`);
  }
  return [...lines, "", `What was asked for ${RESULTS[code]}.`].join("\n");
}

/** Records after the newest leaf could be any: the verdict does not speak of them. */
function limitOf({ unanchored }: Report): string {
  return unanchored === 0 ? "" : `, but for the last ${unanchored}`;
}

function wordOf({ ok }: Verdict): string {
  return ok === null ? "-    " : ok ? "true " : "FALSE";
}
