/**
 * @module
 * What a subcommand of `atlas-gate` is.
 */

export type Command = {
  /** One line a form, as the help shows it. */
  readonly usage: string;
  /** Answers with the exit code: 0 well, 1 something does not hold. What it throws is 2. */
  readonly run: (args: readonly string[]) => Promise<number>;
};

/** Flags or arguments that a command does not take; its usage is shown with it. */
export class UsageError extends Error {}
