/**
 * @module
 * What may name a file or a workspace. Nothing is repaired or decoded: a path is taken byte for
 * byte or refused, so that every later step (scope, storage, audit) sees the very same name.
 */
import { allow, type Decision, refuse } from "./errors.ts";

/** Bytes of UTF-8 of a path or a workspace root, as in the contract with clients. */
export const MAX_PATH_BYTES = 1024;

/**
 * Controls, format characters (zero-width, bidirectional), line separators, lone surrogates: what
 * a reader cannot see, or what has no UTF-8 form.
 */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u;

/** "." "/" and "\" as percent-escapes: harmless here, but a later decoder would see an escape. */
const ENCODED_ESCAPE = /%(?:2e|2f|5c)/i;

const DRIVE_LETTER = /^[A-Za-z]:/;

const encoder = new TextEncoder();

export function utf8Bytes(text: string): number {
  return encoder.encode(text).byteLength;
}

/** True for text that holds a character nobody can see, or half of one. */
export function hasInvisible(text: string): boolean {
  return INVISIBLE.test(text);
}

/**
 * What in `path` would leave the folder it is meant for, as a phrase ("has a `..` segment"), or
 * null. Backslashes are left to the caller: they are an escape in a path, a syntax error in a glob.
 */
export function escapeIn(path: string): string | null {
  if (path.startsWith("/")) return "is absolute";
  if (DRIVE_LETTER.test(path)) return "begins with a drive letter";
  if (ENCODED_ESCAPE.test(path)) return "has a percent-encoded dot, slash or backslash";
  if (path.split("/").includes("..")) return 'has a ".." segment';
  return null;
}

/**
 * What is malformed in `path` beyond {@link escapeIn}, as a phrase, or null. Length is left to the
 * caller, for a glob has another bound.
 */
export function malformedIn(path: string): string | null {
  if (path === "") return "is empty";
  if (hasInvisible(path)) return "has control or invisible format characters";
  if (path !== path.normalize("NFC")) return "is not in Unicode normalization form NFC";
  for (const segment of path.split("/")) {
    if (segment === "") return 'has an empty segment (a doubled or trailing "/")';
    if (segment === ".") return 'has a "." segment';
  }
  return null;
}

/** A path inside a workspace: relative, "/"-separated, NFC, at most {@link MAX_PATH_BYTES}. */
export function checkPath(path: string): Decision<string> {
  return check("The path", path, path);
}

/** As {@link checkPath}, but a prefix may be empty, and may end in "/". */
export function checkPrefix(prefix: string): Decision<string> {
  if (prefix === "") return allow(prefix);
  const path = prefix.endsWith("/") && prefix !== "/" ? prefix.slice(0, -1) : prefix;
  return check("The prefix", prefix, path);
}

/** A POSIX absolute path under the same rules, without a trailing "/"; "/" alone is none. */
export function checkWorkspaceRoot(root: string): Decision<string> {
  const noun = "The workspace root";
  const path = root.startsWith("/") ? root.slice(1) : root;
  // A second leading "/" is an empty segment of an absolute path, no escape.
  const decision = path.startsWith("/")
    ? malformed(noun, "has an empty segment")
    : check(noun, root, path);
  if (decision.ok && path === root) return malformed(noun, "is not absolute");
  return decision;
}

function check(noun: string, given: string, path: string): Decision<string> {
  const escaping = path.includes("\\") ? "has a backslash" : escapeIn(path);
  if (escaping !== null) {
    return refuse(
      "PATH_ESCAPE",
      `${noun} ${escaping}. Name a place inside the workspace with plain "/".`,
    );
  }
  if (utf8Bytes(given) > MAX_PATH_BYTES)
    return malformed(noun, `is longer than ${MAX_PATH_BYTES} bytes`);
  const problem = malformedIn(path);
  return problem === null ? allow(given) : malformed(noun, problem);
}

function malformed(noun: string, problem: string) {
  return refuse(
    "INVALID_ARGUMENT",
    `${noun} ${problem}. Send it in plain form, such as src/main.ts.`,
  );
}
