/**
 * @module
 * `atlas-gate export`: a bundle's records in the words of another standard.
 * Nothing is written of a bundle that does not verify: a converted chain would
 * look whole again.
 */
import { canonicalJson } from "../../audit/canonical.ts";
import { sha256Hex } from "../../audit/hash-portable.ts";
import { readRecord, splitExport } from "../../audit/record.ts";
import { PROFILES } from "../../profiles/index.ts";
import type { VerifiedRecord } from "../../profiles/profile.ts";
import type { Bundle } from "../../verify/bundle.ts";
import { type Command, type ExitCode, parseCommandLine, UsageError } from "../command.ts";
import { describeReport } from "../describe-report.ts";
import { TRUST_OPTIONS, verifyFile } from "../verify-file.ts";

const OPTIONS = { ...TRUST_OPTIONS, profile: { type: "string" } } as const;

export const exportCommand: Command = { run };

async function run(args: readonly string[]): Promise<ExitCode> {
  const { values, positionals } = parseCommandLine(args, OPTIONS);
  const [path, ...more] = positionals;
  if (path === undefined || more.length > 0) throw new UsageError("export takes one bundle");
  const name = values.profile ?? "";
  const profile = Object.hasOwn(PROFILES, name) ? PROFILES[name] : undefined;
  if (profile === undefined) {
    throw new UsageError(`--profile is one of ${Object.keys(PROFILES).join(", ")}`);
  }
  const { bundle, report, code } = await verifyFile(path, values);
  if (code !== 0) {
    console.error(describeReport(report, code));
    return code;
  }
  for (const line of profile(verifiedRecords(bundle))) console.log(line);
  return 0;
}

/** The records of a bundle whose integrity holds: each one is whole. */
function verifiedRecords(bundle: Bundle): VerifiedRecord[] {
  return bundle.records.map((value) => {
    const parts = splitExport(value);
    const record = typeof parts === "string" ? parts : readRecord(parts.record);
    if (typeof parts === "string" || typeof record === "string") {
      throw new TypeError("a verified record is no record");
    }
    return { record, hash_chain: sha256Hex(canonicalJson(parts.record)) };
  });
}
