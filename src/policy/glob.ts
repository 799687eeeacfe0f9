/**
 * @module
 * Matching of globs, in time linear in the path (see automaton.ts). What a glob means is
 * picomatch's; the tests hold this matcher against that library.
 */
import {
  ANY,
  type Automaton,
  accepts,
  choice,
  compile,
  EMPTY,
  one,
  type Pattern,
  repeat,
  sequence,
} from "./automaton.ts";
import { type Glob, NOT_SLASH, parseGlob, type Segment, type Token } from "./glob-syntax.ts";
import { MAX_PATH_BYTES } from "./paths.ts";

export { MAX_PATTERN_BYTES } from "./glob-syntax.ts";

/** Patterns in one list of a plan or a key. */
export const MAX_PATTERNS = 256;

const SLASH: Pattern = one([[0x2f, 0x2f]]);
const ANY_TEXT: Pattern = repeat(one(ANY), 0, Number.POSITIVE_INFINITY);
const ANY_IN_SEGMENT: Pattern = repeat(one(NOT_SLASH), 0, Number.POSITIVE_INFINITY);
const SOME_IN_SEGMENT: Pattern = repeat(one(NOT_SLASH), 1, Number.POSITIVE_INFINITY);

/**
 * A matcher for "any of these". Case-sensitive, as paths are.
 * @throws Error for a pattern that {@link parseGlob} refuses, or for too many: lint comes first
 */
export function compileGlobs(patterns: readonly string[]): (path: string) => boolean {
  return matcher(parseAll(patterns));
}

/**
 * As {@link compileGlobs}, but a path also matches where its case-folded NFKC form fits that of a
 * pattern: `SRC/Secrets`, full-width letters and ligatures are no way around what is forbidden.
 * @throws Error as {@link compileGlobs}, and for a pattern whose folded form is none
 */
export function compileForbidden(patterns: readonly string[]): (path: string) => boolean {
  const asWritten = compileGlobs(patterns);
  const asFolded = matcher(patterns.map((pattern) => mustParse(fold(pattern))));
  if (patterns.length === 0) return asWritten;
  return (path) => {
    if (asWritten(path)) return true;
    const folded = fold(path);
    // One character can fold to 18. A path that outgrows every honest one is a dodge.
    return folded.length > MAX_PATH_BYTES || asFolded(folded);
  };
}

/**
 * Whether a workspace root is among those that a key is narrowed to. A glob that cannot be parsed
 * matches nothing, so that a key stays narrow.
 */
export function matchesAnyRoot(globs: readonly string[], root: string): boolean {
  const parsed = globs.flatMap((text) => {
    const result = parseGlob(text, "root");
    return result.ok ? [result.glob] : [];
  });
  return matcher(parsed)(root);
}

/** What keeps a pattern from being used under `forbidden`, as a sentence, or null. */
export function foldedProblem(pattern: string): string | null {
  const folded = fold(pattern);
  const parsed = parseGlob(folded);
  if (parsed.ok || folded === pattern) return null;
  return `The pattern has look-alike characters that read as ${JSON.stringify(folded)} when they are folded. Write it with plain characters.`;
}

/**
 * Close to Unicode's NFKC_Casefold: compatibility forms, case, and characters that show nothing
 * are gone. The way over upper case joins letters that meet others only there ("ß", "ſ"), and
 * lower case comes before it for the capital "ẞ".
 */
export function fold(text: string): string {
  if (/^[\x20-\x7e]*$/.test(text)) return text.toLowerCase();
  return text
    .split("/")
    .map((segment) => {
      const plain = segment
        .normalize("NFKC")
        .toLowerCase()
        .toUpperCase()
        .toLowerCase()
        .normalize("NFKC");
      // A segment of nothing but invisible characters must not vanish: `*` needs something to take.
      return plain.replace(/\p{Default_Ignorable_Code_Point}/gu, "") || segment;
    })
    .join("/");
}

/** A matcher for one parsed glob, for lint's questions about globs as paths. */
export function globMatcher(glob: Glob): (path: string) => boolean {
  return matcher([glob]);
}

function parseAll(patterns: readonly string[]): Glob[] {
  if (patterns.length > MAX_PATTERNS) throw new Error(`More than ${MAX_PATTERNS} patterns`);
  return patterns.map(mustParse);
}

function mustParse(pattern: string): Glob {
  const parsed = parseGlob(pattern);
  if (!parsed.ok) throw new Error(`Unusable pattern ${JSON.stringify(pattern)}: ${parsed.problem}`);
  return parsed.glob;
}

function matcher(globs: readonly Glob[]): (path: string) => boolean {
  // picomatch takes a path that is the pattern's own text, whatever the pattern means beside that.
  const texts = new Set(globs.map((glob) => glob.text));
  const automata: Automaton[] = globs.filter(hasWildcard).map((glob) => compile(patternOf(glob)));
  return (path) => {
    if (texts.has(path)) return true;
    if (automata.length === 0) return false;
    const units = Uint16Array.from({ length: path.length }, (_, at) => path.charCodeAt(at));
    return automata.some((automaton) => accepts(automaton, units));
  };
}

function hasWildcard(glob: Glob): boolean {
  return glob.segments.some(
    (segment) => segment.globstar || segment.tokens.some((token) => token.kind !== "unit"),
  );
}

function patternOf(glob: Glob): Pattern {
  const parts: Pattern[] = glob.absolute ? [SLASH] : [];
  const last = glob.segments.length - 1;
  let needsSlash = false;
  glob.segments.forEach((segment, at) => {
    const before = needsSlash ? SLASH : EMPTY;
    needsSlash = !segment.globstar;
    if (!segment.globstar) parts.push(before, segmentPattern(segment));
    else if (at < last) {
      const folders = sequence(ANY_TEXT, SLASH);
      parts.push(before, glob.absolute && at === 0 ? folders : choice(EMPTY, folders));
    } else if (at === 0) parts.push(ANY_TEXT);
    else {
      // `src/**` is also `src` itself; after a star (`src/*/**`) picomatch wants a folder below.
      const below = sequence(before, ANY_TEXT);
      parts.push(endsInStar(glob.segments[at - 1]) ? below : choice(EMPTY, below));
    }
  });
  return sequence(...parts);
}

export function endsInStar(segment: Segment | undefined): boolean {
  return segment?.tokens.at(-1)?.kind === "star";
}

function segmentPattern(segment: Segment): Pattern {
  // A segment is never empty, so a star that is all of one takes something.
  return segment.text === "*" ? SOME_IN_SEGMENT : sequence(...segment.tokens.map(tokenPattern));
}

function tokenPattern(token: Token): Pattern {
  switch (token.kind) {
    case "unit":
      return one([[token.unit, token.unit]]);
    case "any":
      return one(NOT_SLASH);
    case "star":
      return ANY_IN_SEGMENT;
    case "class": {
      if (!token.literal) return one(token.set);
      const text = Array.from({ length: token.text.length }, (_, at) => token.text.charCodeAt(at));
      return choice(one(token.set), sequence(...text.map((unit) => one([[unit, unit]]))));
    }
  }
}
