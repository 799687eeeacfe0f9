/**
 * @module
 * PostgreSQL's `text` and `jsonb` cannot hold NUL. Where a value is only for
 * searching, U+FFFD stands in its place.
 */
import { canonicalJson } from "../audit/canonical.ts";
import { copyJson } from "../audit/json.ts";
import { parseJson } from "../audit/parse-json.ts";

/** How NUL is written in JSON. A backslash before it may make it other text: then the copy is equal. */
const ESCAPED_NUL = "\\u0000";

/** JSON text with U+FFFD for every NUL; null when there is nothing to replace. */
export function withoutNul(json: string): string | null {
  if (!json.includes(ESCAPED_NUL)) return null;
  const replace = (text: string) => text.replaceAll("\u0000", "\ufffd");
  return canonicalJson(copyJson(parseJson(json), { text: replace }));
}
