#!/usr/bin/env node
/**
 * @module
 * `atlas-gate`: the command line. One table of subcommands, one file each.
 */
import { archive } from "./commands/archive.ts";
import { type Command, UsageError } from "./commands/command.ts";

const COMMANDS: Readonly<Record<string, Command>> = { archive };

const [name = "", ...args] = process.argv.slice(2);
const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
if (command === undefined) {
  console.error(
    `Usage: atlas-gate COMMAND …\n\n${Object.values(COMMANDS)
      .map(({ usage }) => usage)
      .join("\n")}`,
  );
  process.exitCode = 2;
} else {
  try {
    process.exitCode = await command.run(args);
  } catch (error) {
    const isUsage = error instanceof UsageError;
    console.error(error instanceof Error ? error.message : String(error));
    if (isUsage) console.error(`\n${command.usage}`);
    process.exitCode = 2;
  }
}
