/**
 * @module
 * The levels of log messages, which are RFC 5424's severities (2025-11-25 and
 * 2026-07-28, Logging).
 */
import type { JsonValue } from "./ijson.ts";

/** Least severe first. */
export const LOG_LEVELS = [
  "debug",
  "info",
  "notice",
  "warning",
  "error",
  "critical",
  "alert",
  "emergency",
] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export function isLogLevel(value: JsonValue | undefined): value is LogLevel {
  return LOG_LEVELS.some((level) => level === value);
}

/**
 * Whether a message of `level` is one that was asked for by naming `least`. A
 * level that nobody knows is not known to be less severe.
 */
export function isAtLeast(level: JsonValue | undefined, least: LogLevel): boolean {
  return !isLogLevel(level) || LOG_LEVELS.indexOf(level) >= LOG_LEVELS.indexOf(least);
}
