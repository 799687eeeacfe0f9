/**
 * @module
 * `when` conditions of plans: CEL over the arguments of a call. A condition that fails, or gives
 * anything but a boolean, does not hold.
 *
 * What bounds the cost: the text, the syntax (see condition-syntax.ts), and, before each
 * evaluation, the product of the size of the arguments that the condition looks at, of the longest
 * list for each level of macros, and of what it does with them. The library evaluates
 * its syntax tree by walking it; no code is generated, which Workers would not allow.
 *
 * Numbers in `args` are CEL doubles, as in JSON: compare them freely, but write `int(args.n) + 1`.
 */
import { Environment, EvaluationError, ParseError, type ParseResult } from "@marcbachmann/cel-js";
import { type ConditionFacts, checkSyntax, LINEAR_METHODS } from "./condition-syntax.ts";
import { allow, type Decision, refuse } from "./errors.ts";
import { utf8Bytes } from "./paths.ts";
import { searchRegex } from "./regex.ts";

/** Bytes of UTF-8 of one condition. */
export const MAX_CONDITION_BYTES = 1024;

/** Nesting of arguments that a condition looks at; deeper ones are no honest call. */
const MAX_ARGS_DEPTH = 64;

/**
 * Elementary steps of one evaluation, counted as if every operation looked at all of the arguments:
 * half a second in the worst case, while a look at each of 4 MiB of content is still allowed.
 */
const MAX_STEPS = 32_000_000;

/** Nesting and nodes of the syntax tree; 1,024 bytes of sense need far less. */
const LIMITS = { maxDepth: 24, maxAstNodes: 512, maxListElements: 256, maxMapEntries: 64 };

export type Condition = {
  readonly text: string;
  readonly program: ParseResult;
  readonly facts: ConditionFacts;
};

export type Evaluation =
  | { readonly ok: true; readonly value: boolean }
  /** A sentence without values from the arguments, which may be secret. */
  | { readonly ok: false; readonly message: string };

export function parseCondition(text: string): Decision<Condition> {
  if (utf8Bytes(text) > MAX_CONDITION_BYTES) {
    return invalid(`The condition is longer than ${MAX_CONDITION_BYTES} bytes. Shorten it.`);
  }
  let facts: ConditionFacts | null = null;
  const environment = new Environment({ limits: LIMITS, homogeneousAggregateLiterals: false })
    .registerVariable("args", "map<string, dyn>")
    .registerFunction(`string.${LINEAR_METHODS.contains}(string): bool`, containsText)
    .registerFunction(
      `string.${LINEAR_METHODS.matches}(string): bool`,
      (subject: string, pattern: string) => {
        const regex = facts?.regexes.get(pattern);
        return regex !== undefined && searchRegex(regex, subject);
      },
    );
  let program: ParseResult;
  try {
    program = environment.parse(text);
  } catch (error) {
    if (error instanceof ParseError) return invalid(notCel(error.summary));
    throw error;
  }
  const syntax = checkSyntax(program.ast);
  if (!syntax.ok) return invalid(syntax.problem);
  facts = syntax.facts;
  const types = program.check();
  if (!types.valid) return invalid(notCel(types.error?.summary ?? "its types do not fit"));
  if (types.type !== "bool" && types.type !== "dyn") {
    return invalid(
      `The condition gives a ${types.type}. Make it a comparison, which is true or false.`,
    );
  }
  return allow({ text, program, facts });
}

/** Whether the condition holds for the arguments of a call, which are JSON. Never throws. */
export function evaluate(
  condition: Condition,
  args: Readonly<Record<string, unknown>>,
): Evaluation {
  const { fields, macroDepth, longestLiteral, operations, regexes } = condition.facts;
  const measure = { weight: 1, widest: longestLiteral };
  const known = new Map<string, unknown>();
  for (const [name, value] of Object.entries(args)) {
    if (value === undefined || (fields !== null && !fields.has(name))) continue;
    const converted = convert(value, measure, 1);
    if (converted === undefined)
      return { ok: false, message: "The arguments are nested too deeply." };
    measure.weight += name.length + 1;
    known.set(name, converted);
  }
  const widest = Math.max(1, measure.widest, fields === null ? known.size : 0);
  let perUnit = 1 + operations;
  for (const regex of regexes.values()) perUnit += regex.cost;
  if (measure.weight * widest ** macroDepth * perUnit > MAX_STEPS) {
    return { ok: false, message: "The arguments are too large for the condition to be evaluated." };
  }
  try {
    const value: unknown = condition.program({ args: known });
    if (typeof value === "boolean") return { ok: true, value };
    return { ok: false, message: "The condition is neither true nor false for these arguments." };
  } catch (error) {
    // Only the kind of an evaluation error is told: its text may quote an argument.
    const kind =
      error instanceof EvaluationError ? error.code.replaceAll("_", " ") : "internal failure";
    return {
      ok: false,
      message: `The condition cannot be evaluated for these arguments (${kind}).`,
    };
  }
}

/**
 * JSON as CEL's values. Objects become maps, so that no key (`constructor`, `__proto__`) means
 * anything to JavaScript. Undefined for what is nested too deeply, or no JSON.
 */
function convert(
  value: unknown,
  measure: { weight: number; widest: number },
  depth: number,
): unknown {
  if (depth > MAX_ARGS_DEPTH) return undefined;
  measure.weight += 1;
  if (value === null || typeof value === "boolean" || typeof value === "number") return value;
  if (typeof value === "string") {
    measure.weight += value.length;
    return value;
  }
  if (typeof value !== "object") return undefined;
  if (Array.isArray(value)) {
    measure.widest = Math.max(measure.widest, value.length);
    const items = value.map((item) => convert(item, measure, depth + 1));
    return items.includes(undefined) ? undefined : items;
  }
  const entries = Object.entries(value);
  measure.widest = Math.max(measure.widest, entries.length);
  const map = new Map<string, unknown>();
  for (const [key, item] of entries) {
    const converted = convert(item, measure, depth + 1);
    if (converted === undefined) return undefined;
    measure.weight += key.length + 1;
    map.set(key, converted);
  }
  return map;
}

/** Knuth–Morris–Pratt: `includes` takes half a minute for some texts of a megabyte. */
function containsText(text: string, sought: string): boolean {
  if (sought.length > text.length) return false;
  const fallback = new Int32Array(sought.length + 1);
  for (let at = 1, held = 0; at < sought.length; at++) {
    while (held > 0 && sought.charCodeAt(at) !== sought.charCodeAt(held))
      held = fallback[held] ?? 0;
    if (sought.charCodeAt(at) === sought.charCodeAt(held)) held++;
    fallback[at + 1] = held;
  }
  let held = 0;
  for (let at = 0; at < text.length && held < sought.length; at++) {
    while (held > 0 && text.charCodeAt(at) !== sought.charCodeAt(held)) held = fallback[held] ?? 0;
    if (text.charCodeAt(at) === sought.charCodeAt(held)) held++;
  }
  return held === sought.length;
}

function notCel(summary: string): string {
  return `The condition is not valid CEL: ${summary}. Correct it, for example args.repo == 'acme/api'.`;
}

function invalid(message: string) {
  return refuse("INVALID_ARGUMENT", message);
}
