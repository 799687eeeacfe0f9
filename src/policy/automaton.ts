/**
 * @module
 * Matching in linear time. Patterns come from agents, and JavaScript's regular expressions
 * backtrack: the glob `*a*a*a*b` alone keeps one busy for seconds on a path of 1,024 bytes. Here a
 * pattern becomes a nondeterministic automaton whose states are walked side by side (Thompson
 * 1968), so that a match costs at most states × symbols, whatever the pattern.
 */

/** Symbols are numbers: code points or UTF-16 units, as the caller likes. Ranges are inclusive. */
export type SymbolSet = readonly (readonly [low: number, high: number])[];

export type Pattern =
  | { readonly kind: "one"; readonly of: SymbolSet }
  | { readonly kind: "sequence"; readonly parts: readonly Pattern[] }
  | { readonly kind: "choice"; readonly options: readonly Pattern[] }
  | {
      readonly kind: "repeat";
      readonly part: Pattern;
      readonly min: number;
      /** `Infinity` for no bound. */
      readonly max: number;
    }
  /** Holds at the beginning, or at the end, of the input and takes nothing. */
  | { readonly kind: "assert"; readonly at: "start" | "end" };

type State =
  | { readonly kind: "one"; readonly of: SymbolSet; readonly next: number }
  | { readonly kind: "assert"; readonly at: "start" | "end"; readonly next: number }
  | { readonly kind: "split"; readonly next: number[] }
  | { readonly kind: "accept" };

/** A state that takes a symbol, with where that leads, everything between already walked. */
type Step = {
  /** Pairs of low and high, flat: this is read for every symbol. */
  readonly bounds: Int32Array;
  /** Steps that are live after this one, before the end of the input. */
  readonly after: Int32Array;
  /** Whether this step, if it takes the last symbol, completes a match. */
  readonly completes: boolean;
};

export type Automaton = {
  readonly steps: readonly Step[];
  /** Live at the start. */
  readonly first: Int32Array;
  readonly acceptsEmpty: boolean;
};

/** The first state made; a match ends there. */
const ACCEPT = 0;
const LAST_SYMBOL = 0x10ffff;

export const ANY: SymbolSet = [[0, LAST_SYMBOL]];
export const EMPTY: Pattern = { kind: "sequence", parts: [] };

export function one(of: SymbolSet): Pattern {
  return { kind: "one", of };
}

export function sequence(...parts: readonly Pattern[]): Pattern {
  return { kind: "sequence", parts };
}

export function choice(...options: readonly Pattern[]): Pattern {
  return { kind: "choice", options };
}

export function repeat(part: Pattern, min: number, max: number): Pattern {
  return { kind: "repeat", part, min, max };
}

/** All symbols that are not in `set`. */
export function complement(set: SymbolSet): SymbolSet {
  const gaps: [number, number][] = [];
  let from = 0;
  for (const [low, high] of set.toSorted((a, b) => a[0] - b[0])) {
    if (low > from) gaps.push([from, low - 1]);
    from = Math.max(from, high + 1);
  }
  if (from <= LAST_SYMBOL) gaps.push([from, LAST_SYMBOL]);
  return gaps;
}

export function inSet(set: SymbolSet, symbol: number): boolean {
  for (const [low, high] of set) if (low <= symbol && symbol <= high) return true;
  return false;
}

/** States that {@link compile} would make, without making them: `x{1000}{1000}` is a short text. */
export function sizeOf(pattern: Pattern): number {
  switch (pattern.kind) {
    case "one":
    case "assert":
      return 1;
    case "sequence":
      return pattern.parts.reduce((sum, part) => sum + sizeOf(part), 0);
    case "choice":
      return pattern.options.reduce((sum, option) => sum + sizeOf(option), 1);
    case "repeat": {
      const size = sizeOf(pattern.part);
      return pattern.max === Number.POSITIVE_INFINITY
        ? size * (pattern.min + 1) + 1
        : size * pattern.max + (pattern.max - pattern.min);
    }
  }
}

/** The automaton that takes exactly the inputs that fit the pattern as a whole. */
export function compile(pattern: Pattern): Automaton {
  const states: State[] = [{ kind: "accept" }];
  const start = emit(states, pattern, ACCEPT);
  // Only states that take a symbol remain; steps are numbered in the order of their states.
  const stepOf = new Map<number, number>();
  states.forEach((state, id) => {
    if (state.kind === "one") stepOf.set(id, stepOf.size);
  });
  const walk = (from: number, place: Place) => closure(states, stepOf, from, place);
  const steps = states.flatMap((state) =>
    state.kind === "one"
      ? [
          {
            bounds: Int32Array.from(state.of.flat()),
            after: Int32Array.from(walk(state.next, { start: false, end: false }).live),
            completes: walk(state.next, { start: false, end: true }).accepts,
          },
        ]
      : [],
  );
  return {
    steps,
    first: Int32Array.from(walk(start, { start: true, end: false }).live),
    acceptsEmpty: walk(start, { start: true, end: true }).accepts,
  };
}

/** Built from the end backwards: a part is told the state that follows it, and gives its first. */
function emit(states: State[], part: Pattern, next: number): number {
  const add = (state: State): number => states.push(state) - 1;
  switch (part.kind) {
    case "one":
      return add({ kind: "one", of: part.of, next });
    case "assert":
      return add({ kind: "assert", at: part.at, next });
    case "sequence":
      return part.parts.reduceRight((after, inner) => emit(states, inner, after), next);
    case "choice":
      return add({ kind: "split", next: part.options.map((each) => emit(states, each, next)) });
    case "repeat": {
      let entry = next;
      if (part.max === Number.POSITIVE_INFINITY) {
        const branches = [next];
        entry = add({ kind: "split", next: branches });
        branches.push(emit(states, part.part, entry));
      } else {
        for (let i = part.min; i < part.max; i++) {
          entry = add({ kind: "split", next: [emit(states, part.part, entry), next] });
        }
      }
      for (let i = 0; i < part.min; i++) entry = emit(states, part.part, entry);
      return entry;
    }
  }
}

type Place = { readonly start: boolean; readonly end: boolean };

/** What can be reached from a state without taking a symbol. */
function closure(
  states: readonly State[],
  stepOf: ReadonlyMap<number, number>,
  from: number,
  place: Place,
): { live: number[]; accepts: boolean } {
  const live: number[] = [];
  const seen = new Set<number>();
  const open = [from];
  for (let id = open.pop(); id !== undefined; id = open.pop()) {
    if (seen.has(id)) continue;
    seen.add(id);
    const state = states[id];
    const step = stepOf.get(id);
    if (step !== undefined) live.push(step);
    else if (state?.kind === "split") open.push(...state.next);
    else if (state?.kind === "assert" && place[state.at]) open.push(state.next);
  }
  return { live, accepts: seen.has(ACCEPT) };
}

/** What one symbol costs at most, in steps and ways out of them. */
export function costPerSymbol(automaton: Automaton): number {
  return automaton.steps.reduce((sum, step) => sum + 1 + step.after.length, 0);
}

/** Whether the whole of `input` fits. Costs at most {@link costPerSymbol} for each symbol. */
export function accepts(automaton: Automaton, input: ArrayLike<number>): boolean {
  if (input.length === 0) return automaton.acceptsEmpty;
  const { steps } = automaton;
  // The position that a step was last made live for, so that it is live once.
  const liveAt = new Int32Array(steps.length).fill(-1);
  let live = new Int32Array(steps.length);
  let next = new Int32Array(steps.length);
  live.set(automaton.first);
  let count = automaton.first.length;
  const last = input.length - 1;
  for (let position = 0; position <= last && count > 0; position++) {
    const symbol = input[position] ?? -1;
    let nextCount = 0;
    for (let i = 0; i < count; i++) {
      const step = steps[live[i] ?? 0];
      if (step === undefined || !takes(step.bounds, symbol)) continue;
      if (position === last) {
        if (step.completes) return true;
        continue;
      }
      const { after } = step;
      for (let k = 0; k < after.length; k++) {
        const id = after[k] ?? 0;
        if (liveAt[id] === position) continue;
        liveAt[id] = position;
        next[nextCount++] = id;
      }
    }
    [live, next] = [next, live];
    count = nextCount;
  }
  return false;
}

function takes(bounds: Int32Array, symbol: number): boolean {
  for (let i = 0; i < bounds.length; i += 2) {
    if ((bounds[i] ?? 0) <= symbol && symbol <= (bounds[i + 1] ?? -1)) return true;
  }
  return false;
}
