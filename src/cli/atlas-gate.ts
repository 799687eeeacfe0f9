/**
 * @module
 * `atlas-gate`, the package's command: one line a subcommand, each loaded only
 * when it is called.
 */
import { type Command, type ExitCode, UsageError } from "./command.ts";

type Entry = { readonly usage: string; readonly load: () => Promise<Command> };

const COMMANDS: Readonly<Record<string, Entry>> = {
  verify: {
    usage:
      "verify BUNDLE [--vkey V]... [--log URL|DIR] [--policy FILE] [--since CHECKPOINT] [--receipts FILE] [--segments DIR] [--json]",
    load: async () => (await import("./commands/verify.ts")).verifyCommand,
  },
  plan: {
    usage: [
      "plan list [--workspace-root ROOT] [--tenant T] [--status S] [--json] [--url URL --key KEY | --state-dir DIR]",
      "plan show|approve|revoke HASH --workspace-root ROOT [--tenant T] [--reason TEXT] [--yes] [--json]",
    ].join("\n  atlas-gate "),
    load: async () => (await import("./commands/plan.ts")).planCommand,
  },
  archive: {
    usage:
      "archive backfill|rebuild|verify|export DIR|restore DIR [--from d1|postgres|r2] [--to d1|postgres] [--after ID] [--url URL --key KEY | --state-dir DIR]",
    load: async () => (await import("./commands/archive.ts")).archiveCommand,
  },
  export: {
    usage: "export BUNDLE --profile ocsf|agent-audit-trail|otel [the options of verify]",
    load: async () => (await import("./commands/export.ts")).exportCommand,
  },
  log: {
    usage: [
      "log audit URL|DIR [--vkey V]... [--since CHECKPOINT]... [--state FILE] [--json]",
      "log export s3://BUCKET|DIR --to s3://BUCKET[/PREFIX] --retain-days N [--mode compliance|governance] [--endpoint URL] [--region R] [--source-endpoint URL] [--json]",
      "log lock BUCKET [--retain-days N]",
    ].join("\n  atlas-gate "),
    load: async () => (await import("./commands/log.ts")).logCommand,
  },
};

const USAGE = [
  "Usage: atlas-gate COMMAND",
  ...Object.values(COMMANDS).map(({ usage }) => `  atlas-gate ${usage}`),
].join("\n");

async function main([name = "", ...args]: readonly string[]): Promise<ExitCode> {
  if (name === "--help" || name === "-h" || name === "help") {
    console.log(USAGE);
    return 0;
  }
  const entry = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (entry === undefined) throw new UsageError(USAGE);
  if (args.includes("--help") || args.includes("-h")) {
    console.log(`Usage: atlas-gate ${entry.usage}`);
    return 0;
  }
  return (await entry.load()).run(args);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  // Never 1, which would say that something was checked and found false.
  process.exitCode = 2;
  console.error(error instanceof UsageError ? error.message : error);
}
