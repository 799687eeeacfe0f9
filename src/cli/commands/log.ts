/**
 * @module
 * `atlas-gate log`: what concerns the transparency log as a whole.
 */
import { LogUnreadable } from "../../log/reader.ts";
import { type AuditReport, auditLog, newAudit } from "../../verify/audit-log.ts";
import { loadAudit, saveAudit } from "../audit-state.ts";
import { type Command, type ExitCode, parseCommandLine, UsageError } from "../command.ts";
import { readText, readVkeys } from "../input.ts";
import { openLog } from "../log-source.ts";
import { sha256Bytes } from "../node-hash.ts";
import { exportLog } from "./log-export.ts";
import { printLockCommands } from "./log-lock.ts";

const AUDIT_OPTIONS = {
  vkey: { type: "string", multiple: true },
  since: { type: "string", multiple: true },
  state: { type: "string" },
  json: { type: "boolean" },
} as const;

/** Time between two lines of progress, and between two saves of the state. */
const PROGRESS_MS = 2_000;

const SUBCOMMANDS: Readonly<Record<string, (args: readonly string[]) => Promise<ExitCode>>> = {
  audit,
  export: exportLog,
  lock: printLockCommands,
};

export const logCommand: Command = {
  run: async ([name = "", ...args]) => {
    const subcommand = Object.hasOwn(SUBCOMMANDS, name) ? SUBCOMMANDS[name] : undefined;
    if (subcommand === undefined) {
      throw new UsageError(`log knows: ${Object.keys(SUBCOMMANDS).join(", ")}`);
    }
    return subcommand(args);
  },
};

async function audit(args: readonly string[]): Promise<ExitCode> {
  const { values, positionals } = parseCommandLine(args, AUDIT_OPTIONS);
  const [place, ...more] = positionals;
  if (place === undefined || more.length > 0)
    throw new UsageError("log audit takes one URL or DIR");
  const keys = readVkeys(values.vkey) ?? null;
  const since = await Promise.all((values.since ?? []).map(readText));
  const path = values.state;
  const state = path === undefined ? newAudit() : await loadAudit(path);
  if (state.edge.size > 0) console.error(`${state.edge.size} entries were audited before`);
  let last = Date.now();
  const progress = async (done: number, size: number, clean: boolean): Promise<void> => {
    if (Date.now() - last < PROGRESS_MS) return;
    last = Date.now();
    console.error(`${done} of ${size} entries (${Math.floor((100 * done) / size)} %)`);
    // With a finding the state stays where it was, so that the next audit finds it again.
    if (path !== undefined && clean) await saveAudit(path, state);
  };
  let report: AuditReport;
  try {
    const reader = await openLog(place);
    report = await auditLog({ hash: sha256Bytes, reader, keys, since, state, progress });
  } catch (error) {
    if (error instanceof LogUnreadable) throw new UsageError(error.message);
    throw error;
  }
  if (path !== undefined && report.ok) await saveAudit(path, state);
  console.log(values.json === true ? JSON.stringify(report, null, 2) : describe(report));
  return report.ok ? 0 : 1;
}

function describe(report: AuditReport): string {
  const { origin, size, signed, sessions, kinds, findings, ok } = report;
  const counts = Object.entries(kinds).map(([kind, count]) => `${count} ${kind}`);
  return [
    `log        ${origin ?? "unknown"}`,
    `entries    ${size}${counts.length === 0 ? "" : `: ${counts.join(", ")}`}`,
    `sessions   ${sessions}`,
    `signature  ${signed === null ? "not checked: no --vkey was given" : signed ? "holds" : "DOES NOT HOLD"}`,
    ...findings.map(({ index, code, message }) => `${code} at entry ${index}: ${message}`),
    "",
    ok ? "The log holds together." : "The log DOES NOT HOLD together.",
  ].join("\n");
}
