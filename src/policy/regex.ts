/**
 * @module
 * Regular expressions of conditions, in RE2's syntax as CEL has it (`matches` finds the pattern
 * anywhere in the text), run in linear time. JavaScript's own would let `(a+)+$` in a plan stop the
 * gateway. Left out, and refused by name: flags, `\b`, Unicode and POSIX classes.
 */
import {
  ANY,
  type Automaton,
  accepts,
  choice,
  compile,
  complement,
  costPerSymbol,
  EMPTY,
  one,
  type Pattern,
  repeat,
  type SymbolSet,
  sequence,
  sizeOf,
} from "./automaton.ts";

/** States of one expression: `[a-z]{2,40}` has some 80. Bounds what matching costs per character. */
export const MAX_REGEX_STATES = 500;

/** RE2's own bound on `{n,m}`. */
const MAX_REPEATS = 1000;

export type Regex = {
  readonly automaton: Automaton;
  /** Steps for each character of the text, at most. */
  readonly cost: number;
};

export type RegexParse =
  | { readonly ok: true; readonly regex: Regex }
  /** A phrase that says what is wrong. */
  | { readonly ok: false; readonly problem: string };

const NEWLINE: SymbolSet = [[0x0a, 0x0a]];
const DIGIT: SymbolSet = [[0x30, 0x39]];
const WORD: SymbolSet = [...DIGIT, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]];
const SPACE: SymbolSet = [
  [0x09, 0x0a],
  [0x0c, 0x0d],
  [0x20, 0x20],
];

const SET_ESCAPES: ReadonlyMap<string, SymbolSet> = new Map([
  ["d", DIGIT],
  ["D", complement(DIGIT)],
  ["w", WORD],
  ["W", complement(WORD)],
  ["s", SPACE],
  ["S", complement(SPACE)],
  ["n", NEWLINE],
  ["r", [[0x0d, 0x0d]]],
  ["t", [[0x09, 0x09]]],
]);

const anything = repeat(one(ANY), 0, Number.POSITIVE_INFINITY);

export function parseRegex(text: string): RegexParse {
  const parser = new Parser(text);
  const pattern = parser.whole();
  if (typeof pattern === "string") return { ok: false, problem: pattern };
  const searched = sequence(anything, pattern, anything);
  // Not `size > MAX`: nested repeats can reach infinity, and infinity times zero is no number.
  if (!(sizeOf(searched) <= MAX_REGEX_STATES)) return { ok: false, problem: "repeats too much" };
  const automaton = compile(searched);
  return { ok: true, regex: { automaton, cost: costPerSymbol(automaton) } };
}

/** Whether the expression fits anywhere in the text, character by character (code points). */
export function searchRegex(regex: Regex, text: string): boolean {
  return accepts(
    regex.automaton,
    Array.from(text, (char) => char.codePointAt(0) ?? 0),
  );
}

/** Recursive descent; a string in place of a pattern is what is wrong with the text. */
class Parser {
  readonly #chars: readonly string[];
  #at = 0;

  constructor(text: string) {
    this.#chars = Array.from(text);
  }

  whole(): Pattern | string {
    const pattern = this.#alternatives();
    if (typeof pattern === "string") return pattern;
    return this.#at < this.#chars.length ? 'has a ")" without a "("' : pattern;
  }

  get #next(): string {
    return this.#chars[this.#at] ?? "";
  }

  #take(char: string): boolean {
    if (this.#next !== char) return false;
    this.#at++;
    return true;
  }

  #alternatives(): Pattern | string {
    const options: Pattern[] = [];
    do {
      const option = this.#sequence();
      if (typeof option === "string") return option;
      options.push(option);
    } while (this.#take("|"));
    return choice(...options);
  }

  #sequence(): Pattern | string {
    const parts: Pattern[] = [];
    while (this.#next !== "" && this.#next !== "|" && this.#next !== ")") {
      const atom = this.#atom();
      if (typeof atom === "string") return atom;
      const repeated = this.#repeated(atom);
      if (typeof repeated === "string") return repeated;
      parts.push(repeated);
    }
    return parts.length === 0 ? EMPTY : sequence(...parts);
  }

  #repeated(part: Pattern): Pattern | string {
    const bounds = this.#bounds();
    if (bounds === null) return part;
    if (typeof bounds === "string") return bounds;
    // Greedy and lazy differ in what they capture, not in whether they match.
    this.#take("?");
    if (this.#bounds() !== null) return "repeats a repetition";
    return repeat(part, bounds.min, bounds.max);
  }

  #bounds(): { min: number; max: number } | string | null {
    if (this.#take("*")) return { min: 0, max: Number.POSITIVE_INFINITY };
    if (this.#take("+")) return { min: 1, max: Number.POSITIVE_INFINITY };
    if (this.#take("?")) return { min: 0, max: 1 };
    if (this.#next !== "{") return null;
    const rest = this.#chars.slice(this.#at, this.#at + 12).join("");
    const counted = /^\{(\d{1,4})(?:(,)(\d{1,4})?)?\}/.exec(rest);
    if (counted === null)
      return 'has a "{" that is no {n}, {n,} or {n,m}; write \\{ for the character';
    this.#at += counted[0].length;
    const min = Number(counted[1]);
    const max =
      counted[2] === undefined
        ? min
        : counted[3] === undefined
          ? Number.POSITIVE_INFINITY
          : Number(counted[3]);
    const highest = Number.isFinite(max) ? max : min;
    if (max < min || highest > MAX_REPEATS)
      return `has a repetition outside of 0 to ${MAX_REPEATS}`;
    return { min, max };
  }

  #atom(): Pattern | string {
    const char = this.#next;
    this.#at++;
    switch (char) {
      case "(":
        return this.#group();
      case "[":
        return this.#class();
      case ".":
        return one(complement(NEWLINE));
      case "^":
        return { kind: "assert", at: "start" };
      case "$":
        return { kind: "assert", at: "end" };
      case "\\": {
        const set = this.#escape();
        return typeof set === "string" ? set : one(set);
      }
      case "*":
      case "+":
      case "?":
      case "{":
        return `has a "${char}" with nothing before it`;
      default:
        return one(single(char));
    }
  }

  #group(): Pattern | string {
    if (this.#take("?") && !this.#take(":")) {
      return "has a group that begins with (? other than (?:, which is not supported";
    }
    const inner = this.#alternatives();
    if (typeof inner === "string") return inner;
    return this.#take(")") ? inner : 'has a "(" without a ")"';
  }

  #escape(): SymbolSet | string {
    const char = this.#next;
    this.#at++;
    const set = SET_ESCAPES.get(char);
    if (set !== undefined) return set;
    if (char !== "" && /^[\x21-\x7e]$/.test(char) && !/[A-Za-z0-9]/.test(char)) return single(char);
    return `has the escape \\${char}, which is not supported`;
  }

  #class(): Pattern | string {
    const negated = this.#take("^");
    const ranges: (readonly [number, number])[] = [];
    for (let first = true; first || this.#next !== "]"; first = false) {
      if (this.#next === "") return 'has a "[" without a "]"';
      if (this.#next === "[" && this.#chars[this.#at + 1] === ":") {
        return "has a POSIX class such as [:alpha:], which is not supported";
      }
      const low = this.#classItem();
      if (typeof low === "string") return low;
      const isRange = this.#next === "-" && (this.#chars[this.#at + 1] ?? "]") !== "]";
      if (!isRange) {
        ranges.push(...low);
        continue;
      }
      this.#at++;
      const high = this.#classItem();
      if (typeof high === "string") return high;
      const range = rangeOf(low, high);
      if (range === null) return "has a class with a range that is upside down";
      ranges.push(range);
    }
    this.#at++;
    return one(negated ? complement(ranges) : ranges);
  }

  #classItem(): SymbolSet | string {
    const char = this.#next;
    this.#at++;
    return char === "\\" ? this.#escape() : single(char);
  }
}

function single(char: string): SymbolSet {
  const symbol = char.codePointAt(0) ?? 0;
  return [[symbol, symbol]];
}

/** Null unless both ends are one character, in order. */
function rangeOf(low: SymbolSet, high: SymbolSet): readonly [number, number] | null {
  const from = low[0]?.[0] ?? 0;
  const to = high[0]?.[0] ?? 0;
  const areSingle = [low, high].every((set) => set.length === 1 && set[0]?.[0] === set[0]?.[1]);
  return areSingle && from <= to ? [from, to] : null;
}
