/**
 * @module
 * The grammar of globs in plans and keys: picomatch's with `{dot: true, nonegate: true,
 * noextglob: true, nobrace: true, windows: false}`, less what that library takes in a sense that
 * nobody who reviews a plan would expect. There `|` is an alternation of the whole pattern, `"` is
 * dropped, `[a]+` repeats, `[!a]` is "! or a", and `src/**.ts` looks into one folder only.
 */
import { complement, type SymbolSet } from "./automaton.ts";
import { escapeIn, malformedIn, utf8Bytes } from "./paths.ts";

/** Bytes of UTF-8 of one pattern, as in the contract with clients. */
export const MAX_PATTERN_BYTES = 256;

/** What takes one UTF-16 unit of a path, but `star`, which takes any number within a segment. */
export type Token =
  | { readonly kind: "unit"; readonly unit: number }
  | { readonly kind: "any" }
  | { readonly kind: "star" }
  | {
      readonly kind: "class";
      readonly set: SymbolSet;
      readonly text: string;
      /** Whether the class also takes its own text, so that `[id].tsx` fits the file `[id].tsx`. */
      readonly literal: boolean;
    };

export type Segment = {
  readonly text: string;
  /** `**`, which stands for any number of segments. */
  readonly globstar: boolean;
  readonly tokens: readonly Token[];
};

export type Glob = {
  readonly text: string;
  readonly absolute: boolean;
  /** Never two globstars in a row. */
  readonly segments: readonly Segment[];
};

/** `problem` is a whole sentence that says what to do. */
export type GlobParse =
  | { readonly ok: true; readonly glob: Glob }
  | { readonly ok: false; readonly kind: "syntax" | "escape"; readonly problem: string };

const SLASH = 0x2f;
export const NOT_SLASH: SymbolSet = complement([[SLASH, SLASH]]);

/** What picomatch takes as the sign that brackets are a class and cannot be plain text. */
const CLASS_ONLY = /[-*+?.^${}(|)[\]]/;

/** @param kind "relative" for paths in a workspace; "root" for workspace roots, which begin with "/" */
export function parseGlob(text: string, kind: "relative" | "root" = "relative"): GlobParse {
  const absolute = kind === "root" && text.startsWith("/");
  const path = absolute ? text.slice(1) : text;
  const escaping = escapeIn(path);
  if (escaping !== null) {
    return {
      ok: false,
      kind: "escape",
      problem: `The pattern ${escaping}. Write patterns relative to the workspace root, such as src/**.`,
    };
  }
  const problem = syntaxProblem(text, path);
  if (problem !== null) return { ok: false, kind: "syntax", problem };
  const segments: Segment[] = [];
  for (const segment of path.split("/")) {
    const parsed = parseSegment(segment);
    if (typeof parsed === "string") return { ok: false, kind: "syntax", problem: parsed };
    if (!(parsed.globstar && segments.at(-1)?.globstar)) segments.push(parsed);
  }
  return { ok: true, glob: { text, absolute, segments } };
}

function syntaxProblem(text: string, path: string): string | null {
  if (utf8Bytes(text) > MAX_PATTERN_BYTES) {
    return `The pattern is longer than ${MAX_PATTERN_BYTES} bytes. Use a wildcard or a shorter path.`;
  }
  if (path.startsWith("!")) {
    return 'The pattern begins with "!", but nothing is negated here. List what is not allowed under forbidden.paths.';
  }
  const special = /[(){}\\|"]/.exec(path);
  if (special !== null) {
    return `The pattern has "${special[0]}", which patterns do not know. Write one pattern for each alternative, with "/", "*", "**", "?" and [a-z] only.`;
  }
  const malformed = malformedIn(path);
  return malformed === null
    ? null
    : `The pattern ${malformed}. Write it in plain form, such as src/api/**.`;
}

function parseSegment(text: string): Segment | string {
  if (text === "**") return { text, globstar: true, tokens: [] };
  if (text.includes("**")) {
    return 'The pattern has "**" within a segment, where it would look into one folder only. Write "*", or "**" between slashes, such as src/**/*.ts.';
  }
  const tokens: Token[] = [];
  for (let at = 0; at < text.length; at++) {
    const char = text.charAt(at);
    if (char === "*") tokens.push({ kind: "star" });
    else if (char === "?") tokens.push({ kind: "any" });
    else if (char === "[") {
      const end = text.indexOf("]", at + 1);
      const parsed = end < 0 ? null : parseClass(text.slice(at, end + 1));
      if (parsed === null || text.charAt(end + 1) === "+") {
        return 'The pattern has a "[" that does not begin a class. Write a class as [abc], [a-z] or [^a-z], with nothing that repeats it; a file with brackets in its name is matched by "?" in their place.';
      }
      tokens.push(parsed);
      at = end;
    } else if (char === "]") {
      return 'The pattern has a "]" that ends no class. Write "?" in its place.';
    } else tokens.push({ kind: "unit", unit: text.charCodeAt(at) });
  }
  return { text, globstar: false, tokens };
}

/** `text` with its brackets. Null for an empty class, a nested "[", a leading "!" or a range upside down. */
function parseClass(text: string): Token | null {
  const negated = text.startsWith("[^");
  const inner = text.slice(negated ? 2 : 1, -1);
  if (inner === "" || inner.startsWith("!") || inner.includes("[")) return null;
  const ranges: [number, number][] = [];
  for (let at = 0; at < inner.length; at++) {
    const low = inner.charCodeAt(at);
    const isRange = inner.charAt(at + 1) === "-" && at + 2 < inner.length;
    const high = isRange ? inner.charCodeAt(at + 2) : low;
    if (high < low) return null;
    ranges.push([low, high]);
    if (isRange) at += 2;
  }
  return {
    kind: "class",
    set: negated ? complement([...ranges, [SLASH, SLASH]]) : ranges,
    text,
    literal: !negated && !CLASS_ONLY.test(inner),
  };
}
