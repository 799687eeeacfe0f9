/**
 * @module
 * Pins of definitions, and what changed between two copies of one, as an
 * operator reads it before approving again. Pure.
 */
import { canonicalJson } from "../audit/canonical.ts";
import { sha256Hex } from "../audit/hash-node.ts";
import type { JsonValue } from "../mcp/ijson.ts";

/**
 * The pin of a definition: lowercase hex SHA-256 of its RFC 8785 form.
 *
 * @throws TypeError for what has no such form, a lone surrogate for one
 */
export function pinOf(definition: JsonValue): string {
  return sha256Hex(canonicalJson(definition));
}

/** One place where two copies differ. */
export type Change = {
  /** JSON pointer (RFC 6901); empty for the whole. */
  readonly path: string;
  /**
   * JSON text, null where there is nothing. Bounded, and around the difference: what both sides
   * have in common is cut to a few characters. Characters that do not show are escaped.
   */
  readonly before: string | null;
  readonly after: string | null;
};

export type Difference = {
  readonly changes: readonly Change[];
  /** Changes past the first {@link MAX_CHANGES}. */
  readonly more: number;
};

/** An operator reads them; past so many, the two copies themselves are the better reading. */
export const MAX_CHANGES = 200;
/** Characters of one side of a change, and of what is shown around a difference. */
export const MAX_SHOWN_CHARS = 2_000;
const CONTEXT_CHARS = 40;
/** Longest pointer that is shown. */
const MAX_POINTER_CHARS = 512;

/** Controls, format characters, private use, line and paragraph separators: text that hides from its reader. */
const HIDDEN = /[\p{C}\p{Zl}\p{Zp}]/gu;

type Pair = { path: string; before: JsonValue | undefined; after: JsonValue | undefined };

/** What changed from `approved` to `observed`, in the order of the approved copy; nothing when both have one pin. */
export function difference(approved: JsonValue, observed: JsonValue): Difference {
  const changes: Change[] = [];
  let found = 0;
  const pending: Pair[] = [{ path: "", before: approved, after: observed }];
  for (let pair = pending.pop(); pair !== undefined; pair = pending.pop()) {
    const inner = membersOf(pair);
    if (inner !== null) {
      for (const member of inner.reverse()) pending.push(member);
    } else if (!isSame(pair.before, pair.after)) {
      found += 1;
      if (changes.length < MAX_CHANGES) changes.push(describe(pair));
    }
  }
  return { changes, more: found - changes.length };
}

/** The members of two objects, or the elements of two arrays, side by side; null where they are not of one kind. */
function membersOf({ path, before, after }: Pair): Pair[] | null {
  if (Array.isArray(before) && Array.isArray(after)) {
    return Array.from({ length: Math.max(before.length, after.length) }, (_, at) => ({
      path: `${path}/${at}`,
      before: before[at],
      after: after[at],
    }));
  }
  if (!isObject(before) || !isObject(after)) return null;
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...keys].map((key) => ({
    path: `${path}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`,
    before: ownMember(before, key),
    after: ownMember(after, key),
  }));
}

function isObject(value: JsonValue | undefined): value is { [key: string]: JsonValue } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A key may be `__proto__` or `toString`: only own members count. */
function ownMember(value: { [key: string]: JsonValue }, key: string): JsonValue | undefined {
  return Object.hasOwn(value, key) ? value[key] : undefined;
}

/** Of two values that are not both objects or both arrays; -0 is written 0, and so is 0. */
function isSame(before: JsonValue | undefined, after: JsonValue | undefined): boolean {
  return before === after;
}

function describe({ path, before, after }: Pair): Change {
  const shownPath = visible(bounded(path, MAX_POINTER_CHARS));
  if (before === undefined || after === undefined) {
    return { path: shownPath, before: whole(before), after: whole(after) };
  }
  const [left, right] = [JSON.stringify(before), JSON.stringify(after)];
  if (Math.max(left.length, right.length) <= MAX_SHOWN_CHARS) {
    return { path: shownPath, before: visible(left), after: visible(right) };
  }
  // In a long text the difference must be seen, wherever it is.
  let start = 0;
  while (start < left.length && start < right.length && left[start] === right[start]) start++;
  let end = 0;
  const room = Math.min(left.length, right.length) - start;
  while (end < room && left[left.length - 1 - end] === right[right.length - 1 - end]) end++;
  return { path: shownPath, before: excerpt(left, start, end), after: excerpt(right, start, end) };
}

/** The part of a text between what both sides begin and end with, with a little of both. */
function excerpt(text: string, start: number, end: number): string {
  const from = Math.max(0, start - CONTEXT_CHARS);
  const to = Math.min(text.length, text.length - end + CONTEXT_CHARS);
  const part = bounded(text.slice(from, to), MAX_SHOWN_CHARS);
  return visible(`${from > 0 ? "…" : ""}${part}${to < text.length ? "…" : ""}`);
}

function whole(value: JsonValue | undefined): string | null {
  return value === undefined ? null : visible(bounded(JSON.stringify(value), MAX_SHOWN_CHARS));
}

function bounded(text: string, chars: number): string {
  return text.length > chars ? `${text.slice(0, chars)}… (${text.length} characters)` : text;
}

function visible(text: string): string {
  return text.replace(HIDDEN, (char) => `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`);
}
