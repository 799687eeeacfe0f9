/**
 * @module
 * Which CEL a `when` condition may use. CEL ends, but need not end soon: `cel.bind` and `map` can
 * double a value with every line, `split` and `join` can square it, and JavaScript's own substring
 * search is quadratic for some texts. So what is known to be bounded is named here, and all else is
 * refused when the plan is linted. Every value that a condition can name stays a part of `args` or
 * of the condition's own text.
 */
import type { ASTNode } from "@marcbachmann/cel-js";
import { parseRegex, type Regex } from "./regex.ts";

/** Macros within macros: two look at pairs, which is as far as conditions on a call go. */
export const MAX_MACRO_DEPTH = 2;

/** What evaluation needs to know about a condition beforehand. */
export type ConditionFacts = {
  /** Fields of `args` that are looked at; null where `args` is used as a whole. */
  readonly fields: ReadonlySet<string> | null;
  readonly macroDepth: number;
  readonly longestLiteral: number;
  /** Calls and operators, each of which may look at all that it is given. */
  readonly operations: number;
  /** Regular expressions by their text. */
  readonly regexes: ReadonlyMap<string, Regex>;
};

export type SyntaxCheck =
  | { readonly ok: true; readonly facts: ConditionFacts }
  /** A sentence that says what to do. */
  | { readonly ok: false; readonly problem: string };

const FUNCTIONS = ["has", "size", "int", "double", "string", "bool", "type", "dyn", "timestamp"];
const METHODS = ["size", "startsWith", "endsWith", "lowerAscii", "upperAscii", "trim"];
const MACROS = ["all", "exists", "exists_one", "filter"];
const TYPE_NAMES = ["bool", "int", "double", "string", "list", "map", "null_type"];

/** Methods that are replaced by ones that run in linear time, and the names of those. */
export const LINEAR_METHODS = { contains: "containsInLinearTime", matches: "matchesInLinearTime" };

/**
 * Walks a parsed condition, and puts the linear methods in the place of the library's own: call it
 * before the condition is type-checked, which is when methods are looked up.
 */
export function checkSyntax(root: ASTNode): SyntaxCheck {
  const walk = new Walk();
  const problem = walk.visit(root, []);
  return problem === null ? { ok: true, facts: walk.facts() } : { ok: false, problem };
}

class Walk {
  readonly #fields = new Set<string>();
  readonly #regexes = new Map<string, Regex>();
  #usesAllArgs = false;
  #macroDepth = 0;
  #longestLiteral = 0;
  #operations = 0;

  facts(): ConditionFacts {
    return {
      fields: this.#usesAllArgs ? null : this.#fields,
      macroDepth: this.#macroDepth,
      longestLiteral: this.#longestLiteral,
      operations: this.#operations,
      regexes: this.#regexes,
    };
  }

  /** @param bound names that macros around the node have bound, one for each depth */
  visit(node: ASTNode, bound: readonly string[]): string | null {
    switch (node.op) {
      case "value":
        return null;
      case "id":
        return this.#name(node.args, bound);
      case ".":
        return this.#selection(node.args[0], node.args[1], bound);
      case "[]": {
        const [from, index] = node.args;
        return index.op === "value" && typeof index.args === "string"
          ? this.#selection(from, index.args, bound)
          : this.#all([from, index], bound);
      }
      case "call": {
        const [name, args] = node.args;
        this.#operations++;
        return FUNCTIONS.includes(name)
          ? this.#all(args, bound)
          : `The condition calls ${name}(), which conditions do not have. Use ${FUNCTIONS.join(", ")}.`;
      }
      case "rcall":
        return this.#method(node.args, bound);
      case "list":
        this.#longestLiteral = Math.max(this.#longestLiteral, node.args.length);
        return this.#all(node.args, bound);
      case "map":
        this.#longestLiteral = Math.max(this.#longestLiteral, node.args.length);
        return this.#all(node.args.flat(), bound);
      case "!_":
      case "-_":
        return this.visit(node.args, bound);
      case ".?":
      case "[?]":
        return "The condition uses optional access, which conditions do not have. Use has().";
      default:
        this.#operations++;
        return this.#all(node.args, bound);
    }
  }

  #all(nodes: readonly ASTNode[], bound: readonly string[]): string | null {
    for (const node of nodes) {
      const problem = this.visit(node, bound);
      if (problem !== null) return problem;
    }
    return null;
  }

  #name(name: string, bound: readonly string[]): string | null {
    if (bound.includes(name) || TYPE_NAMES.includes(name)) return null;
    if (name !== "args") {
      return `The condition names ${name}, but the only variable is args, the arguments of the call. Write args.${name}.`;
    }
    this.#usesAllArgs = true;
    return null;
  }

  #selection(from: ASTNode, field: string, bound: readonly string[]): string | null {
    if (from.op !== "id" || from.args !== "args") return this.visit(from, bound);
    this.#fields.add(field);
    return null;
  }

  #method(call: [string, ASTNode, ASTNode[]], bound: readonly string[]): string | null {
    const [name, receiver, args] = call;
    this.#operations++;
    if (MACROS.includes(name)) return this.#macro(name, receiver, args, bound);
    if (name === "matches") {
      const problem = this.#regex(args);
      if (problem !== null) return problem;
    }
    if (name === "contains" || name === "matches") call[0] = LINEAR_METHODS[name];
    else if (!METHODS.includes(name)) {
      const known = [...METHODS, ...Object.keys(LINEAR_METHODS), ...MACROS].join(", ");
      return `The condition calls .${name}(), which conditions do not have. Use ${known}.`;
    }
    return this.#all([receiver, ...args], bound);
  }

  #regex(args: readonly ASTNode[]): string | null {
    const [pattern] = args;
    if (args.length !== 1 || pattern?.op !== "value" || typeof pattern.args !== "string") {
      return "The condition gives matches() a computed pattern. Write the pattern as a string.";
    }
    const parsed = parseRegex(pattern.args);
    if (!parsed.ok) {
      return `The regular expression ${JSON.stringify(pattern.args)} ${parsed.problem}. Use a simpler one, or startsWith, endsWith, contains.`;
    }
    this.#regexes.set(pattern.args, parsed.regex);
    return null;
  }

  #macro(
    name: string,
    receiver: ASTNode,
    args: readonly ASTNode[],
    bound: readonly string[],
  ): string | null {
    const [variable, predicate] = args;
    if (args.length !== 2 || variable?.op !== "id" || predicate === undefined) {
      return `The condition calls .${name}() in another form than ${name}(x, condition on x). Write it in that form.`;
    }
    if (variable.args === "args" || TYPE_NAMES.includes(variable.args)) {
      return `The condition binds ${variable.args} anew in .${name}(). Use another name.`;
    }
    if (!isSource(receiver)) {
      return `The condition calls .${name}() on a computed list. Call it on a part of args, on a list of plain values, or on a filter of these.`;
    }
    const inner = [...bound, variable.args];
    this.#macroDepth = Math.max(this.#macroDepth, inner.length);
    if (inner.length > MAX_MACRO_DEPTH) {
      return `The condition has macros nested deeper than ${MAX_MACRO_DEPTH}. Split it into several entries, or simplify it.`;
    }
    return this.visit(receiver, bound) ?? this.visit(predicate, inner);
  }
}

/** A list whose elements are no larger than what is in `args` or in the condition's text. */
function isSource(node: ASTNode): boolean {
  if (node.op === "list") return node.args.every((item) => item.op === "value" || isSource(item));
  if (node.op === "rcall" && node.args[0] === "filter") return isSource(node.args[1]);
  return isPart(node);
}

/** `args`, a bound name, or something selected from one. */
function isPart(node: ASTNode): boolean {
  if (node.op === "." || node.op === "[]") return isPart(node.args[0]);
  return node.op === "id";
}
