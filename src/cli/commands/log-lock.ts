/**
 * @module
 * `atlas-gate log lock`: the wrangler commands that set the bucket's lock rules.
 * They are printed and not run: a lock in force cannot be tried out and undone.
 */
import { type ExitCode, parseCommandLine, UsageError } from "../command.ts";
import { WORM_PREFIXES } from "../s3/worm-prefixes.ts";

const OPTIONS = { "retain-days": { type: "string" } } as const;

export async function printLockCommands(args: readonly string[]): Promise<ExitCode> {
  const { values, positionals } = parseCommandLine(args, OPTIONS);
  const [bucket, ...more] = positionals;
  if (bucket === undefined || more.length > 0) throw new UsageError("log lock takes one bucket");
  const days = values["retain-days"];
  if (days !== undefined && !/^[1-9]\d{0,4}$/.test(days)) {
    throw new UsageError("--retain-days is a whole number; without it the lock has no end");
  }
  const retention = days === undefined ? "--retention-indefinite" : `--retention-days ${days}`;
  for (const prefix of WORM_PREFIXES) {
    const rule = `atlas-gate-${prefix.replaceAll("/", "-").replace(/-$/, "")}`;
    console.log(`wrangler r2 bucket lock add ${bucket} ${rule} ${prefix} ${retention}`);
  }
  return 0;
}
