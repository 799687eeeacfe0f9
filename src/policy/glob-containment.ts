/**
 * @module
 * Whether all that one glob matches lies within another. Decided on the text of the two, segment
 * by segment: sound, so that nothing outside is ever called inside, but not complete. A pattern
 * that only several others cover together (`[ab]/x` in `a/*` and `b/*`) counts as outside.
 */
import { inSet } from "./automaton.ts";
import { endsInStar, globMatcher } from "./glob.ts";
import type { Glob, Segment, Token } from "./glob-syntax.ts";

export function globContains(outer: Glob, inner: Glob): boolean {
  if (outer.text === inner.text) return true;
  if (!segmentsContain(outer.segments, inner.segments)) return false;
  // A glob also takes its own text as a path, which its classes need not.
  const hasClass = inner.segments.some(({ tokens }) => tokens.some(({ kind }) => kind === "class"));
  return !hasClass || globMatcher(outer)(inner.text);
}

/** `**` in `outer` takes any segments, those of `inner` that are `**` too; nothing else takes them. */
function segmentsContain(outer: readonly Segment[], inner: readonly Segment[]): boolean {
  const tail = openTail(outer);
  if (tail === null) return covers(outer, inner, isGlobstar, segmentContains);
  const head = outer.slice(0, -tail.length);
  for (let taken = 0; taken <= inner.length; taken++) {
    if (!covers(head, inner.slice(0, taken), isGlobstar, segmentContains)) continue;
    // The fewest segments for the head leave the most for the tail: no other split does better.
    return !tail.needsOne || neverEmpty(inner.slice(taken), inner[taken - 1]);
  }
  return false;
}

/** An end that takes any further segments: `**`, which needs one after a star, or `**` and `*`. */
function openTail(segments: readonly Segment[]): { length: number; needsOne: boolean } | null {
  const last = segments.at(-1);
  const before = segments.at(-2);
  if (last?.globstar) return { length: 1, needsOne: endsInStar(before) };
  return before?.globstar && last?.text === "*" ? { length: 2, needsOne: true } : null;
}

/** Whether segments stand for at least one: some that are no `**`, or a final one after a star. */
function neverEmpty(segments: readonly Segment[], before: Segment | undefined): boolean {
  return (
    segments.some((segment) => !segment.globstar) || (segments.length > 0 && endsInStar(before))
  );
}

function segmentContains(outer: Segment, inner: Segment): boolean {
  if (inner.globstar) return false;
  // No segment is empty, so "*" takes every one.
  if (outer.text === "*" || outer.text === inner.text) return true;
  return covers(outer.tokens, inner.tokens, isStar, tokenContains);
}

function tokenContains(outer: Token, inner: Token): boolean {
  switch (outer.kind) {
    case "star":
      return false;
    case "unit":
      return inner.kind === "unit" && inner.unit === outer.unit;
    case "any":
      // A class that also takes its own text takes more than one character.
      return (
        inner.kind === "unit" || inner.kind === "any" || (inner.kind === "class" && !inner.literal)
      );
    case "class":
      return inner.kind === "unit"
        ? inSet(outer.set, inner.unit)
        : inner.kind === "class" && inner.text === outer.text;
  }
}

function isGlobstar(segment: Segment): boolean {
  return segment.globstar;
}

function isStar(token: Token): boolean {
  return token.kind === "star";
}

/**
 * Wildcard matching of one sequence by another: a wild element of `outer` takes any run of `inner`,
 * any other takes one element. Going back to the last wild element is enough, so that the time is
 * the product of the lengths.
 */
function covers<T>(
  outer: readonly T[],
  inner: readonly T[],
  isWild: (element: T) => boolean,
  contains: (outer: T, inner: T) => boolean,
): boolean {
  let o = 0;
  let wildAt = -1;
  let wildEnd = 0;
  for (let i = 0; i < inner.length; ) {
    const taker = outer[o];
    const taken = inner[i];
    if (taker !== undefined && isWild(taker)) {
      wildAt = o++;
      wildEnd = i;
    } else if (taker !== undefined && taken !== undefined && contains(taker, taken)) {
      o++;
      i++;
    } else if (wildAt >= 0) {
      o = wildAt + 1;
      i = ++wildEnd;
    } else return false;
  }
  return outer.slice(o).every(isWild);
}
