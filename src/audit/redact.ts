/**
 * @module
 * A call's arguments as the audit log keeps them. Pure, and linear in the size
 * of the arguments: agents write them.
 */
import { canonicalJson } from "./canonical.ts";
import { holdsCredential, namesCredential } from "./credentials.ts";
import { type CopyRules, copyJson, type JsonObject, type JsonValue, WELL_FORMED } from "./json.ts";

/** Largest stored arguments, bytes of their RFC 8785 text: a record is a note of a call, not its copy. */
export const MAX_ARGS_BYTES = 8 * 1024;

/** What stands in the place of a credential. */
export const REDACTED = "[REDACTED]";

/** `AUDIT_ARGS`. */
export type ArgsMode = "redacted" | "digest" | "full";

/**
 * The RFC 8785 text of `args` as stored, or null for `digest`. The caller's
 * object is not touched.
 *
 * - `redacted`: values of keys that name a credential, and strings (keys too)
 *   that hold one, become `"[REDACTED]"`, at every depth; the values of the
 *   top-level keys in `contentKeys` (file contents) become `{"bytes": n}`.
 * - `full`: nothing is taken out.
 *
 * In both, lone surrogates become U+FFFD, and what is over
 * {@link MAX_ARGS_BYTES} becomes `{"truncated": true, "bytes": n}`.
 *
 * @throws TypeError for values that JSON cannot hold.
 */
export function storeArgs(
  mode: ArgsMode,
  args: JsonObject,
  options: { readonly contentKeys: readonly string[] },
): string | null {
  if (mode === "digest") return null;
  const rules = mode === "full" ? WELL_FORMED : redaction(args, options.contentKeys);
  const text = canonicalJson(copyJson(args, rules));
  const bytes = utf8Bytes(text);
  return bytes <= MAX_ARGS_BYTES ? text : canonicalJson({ truncated: true, bytes });
}

function redaction(root: JsonObject, contentKeys: readonly string[]): CopyRules {
  return {
    text: (text) => (holdsCredential(text) ? REDACTED : text.toWellFormed()),
    member: (key, value, parent) => {
      if (namesCredential(key)) return REDACTED;
      return parent === root && contentKeys.includes(key)
        ? { bytes: contentBytes(value) }
        : undefined;
    },
  };
}

/** Bytes of a text; of anything else, bytes of its RFC 8785 text. */
function contentBytes(value: JsonValue): number {
  return utf8Bytes(typeof value === "string" ? value : canonicalJson(copyJson(value, WELL_FORMED)));
}

function utf8Bytes(text: string): number {
  return new TextEncoder().encode(text).length;
}

/** A text of a caller's for a record or a log line; one that holds a credential says nothing. */
export function withoutCredential(text: string): string {
  return holdsCredential(text) ? REDACTED : text;
}
