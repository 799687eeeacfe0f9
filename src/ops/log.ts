/**
 * @module
 * Structured logs: one JSON object a line. Callers pass names and numbers,
 * never credentials, arguments or upstream text.
 */

import { headerJson } from "../mcp/header-json.ts";

export type LogLevel = "info" | "warn" | "error" | "alarm";

export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>;

/**
 * Writes one event. `alarm` is for what must not happen at all, such as a changed record.
 *
 * In ASCII: callers choose names of methods and tools, and JSON may hold as they are C1 controls,
 * separators of lines and marks that turn the writing around, which a terminal takes for more than text.
 */
export function logEvent(level: LogLevel, event: string, fields: LogFields): void {
  // One channel for all levels: `wrangler dev` decorates the others, and a line must stay one JSON object.
  console.log(headerJson({ level, event, ...fields }));
}
