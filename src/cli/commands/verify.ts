/**
 * @module
 * `atlas-gate verify`: the verdicts on a bundle, by exit code, for a person or
 * as JSON.
 */
import { type Command, type ExitCode, parseCommandLine, UsageError } from "../command.ts";
import { describeReport } from "../describe-report.ts";
import { TRUST_OPTIONS, verifyFile } from "../verify-file.ts";

const OPTIONS = { ...TRUST_OPTIONS, json: { type: "boolean" } } as const;

export const verifyCommand: Command = { run };

async function run(args: readonly string[]): Promise<ExitCode> {
  const { values, positionals } = parseCommandLine(args, OPTIONS);
  const [path, ...more] = positionals;
  if (path === undefined || more.length > 0) throw new UsageError("verify takes one bundle");
  const { report, code } = await verifyFile(path, values);
  console.log(
    values.json === true ? JSON.stringify(report, null, 2) : describeReport(report, code),
  );
  return code;
}
