/**
 * @module
 * What a subcommand of `atlas-gate` is.
 */
import { type ParseArgsOptionsConfig, parseArgs } from "node:util";

/** 0: what was asked for holds. 1: something is false. 2: it could not be checked. */
export type ExitCode = 0 | 1 | 2;

export type Command = {
  readonly run: (args: readonly string[]) => Promise<ExitCode>;
};

/** Something that the user can mend: one line on stderr, exit code 2. */
export class UsageError extends Error {}

/** Parses options and arguments strictly. @throws UsageError saying what is wrong. */
export function parseCommandLine<Options extends ParseArgsOptionsConfig>(
  args: readonly string[],
  options: Options,
) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (error) {
    if (error instanceof TypeError) throw new UsageError(error.message);
    throw error;
  }
}
