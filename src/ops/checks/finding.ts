/**
 * @module
 * What a scheduled check is and what it finds.
 */
import type { Config } from "../../config.ts";

/** Each is a value of the label `check`, an alert's key and an action in records. */
export const CHECK_NAMES = ["stalled_flush", "lost_alarm", "log", "expiring_key"] as const;

export type CheckName = (typeof CHECK_NAMES)[number];

export type Finding = {
  readonly check: CheckName;
  /** What it is about; with the check, what makes two findings the same. */
  readonly subject: string;
  readonly severity: "warning" | "critical";
  /** One sentence for the person on call. */
  readonly message: string;
};

/** Looks, and says what it found; null when it was not its turn. Throws when it cannot look. */
export type Check = (env: Env, config: Config, now: number) => Promise<Finding[] | null>;

/** Findings of one run of a check: one outage must not write a thousand records. */
export const MAX_FINDINGS = 20;
