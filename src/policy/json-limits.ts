/**
 * @module
 * What a plan may hold as JSON, before its fields mean anything: no nesting that overflows a stack,
 * no key that JavaScript takes for the prototype, no text without a UTF-8 form.
 */

/** A plan's own fields end at 4; the rest is room for an unknown one to be named properly. */
const MAX_DEPTH = 16;

/** Problems past this many are more of the same. */
const MAX_PROBLEMS = 20;

export type JsonProblem = {
  /** RFC 6901. */
  readonly pointer: string;
  readonly message: string;
  /** Whether nothing else can be said about a value that has this problem. */
  readonly fatal: boolean;
};

/** RFC 6901 pointer of a place. */
export function pointerTo(...path: readonly (string | number)[]): string {
  return path
    .map((step) => `/${String(step).replaceAll("~", "~0").replaceAll("/", "~1")}`)
    .join("");
}

/** Walks with a stack of its own, for JSON.parse takes nesting that recursion does not survive. */
export function jsonProblems(root: unknown): JsonProblem[] {
  const problems: JsonProblem[] = [];
  const open: { value: unknown; pointer: string; depth: number }[] = [
    { value: root, pointer: "", depth: 0 },
  ];
  for (let place = open.pop(); place !== undefined; place = open.pop()) {
    if (problems.length >= MAX_PROBLEMS) break;
    const { value, pointer, depth } = place;
    if (typeof value === "string" && !value.isWellFormed()) {
      problems.push({
        pointer,
        message: "Half of a surrogate pair has no UTF-8 form. Remove it.",
        fatal: true,
      });
    }
    if (typeof value !== "object" || value === null) continue;
    if (depth >= MAX_DEPTH) {
      problems.push({
        pointer,
        message: `Nested deeper than ${MAX_DEPTH} levels. Remove it.`,
        fatal: true,
      });
      continue;
    }
    for (const [key, inner] of Object.entries(value)) {
      const at = pointer + pointerTo(key);
      if (!key.isWellFormed()) {
        problems.push({
          pointer,
          message: "A key has half of a surrogate pair. Remove it.",
          fatal: true,
        });
      } else if (key === "__proto__") {
        problems.push({
          pointer: at,
          message: 'The key "__proto__" is not allowed. Remove it.',
          fatal: false,
        });
      } else open.push({ value: inner, pointer: at, depth: depth + 1 });
    }
  }
  return problems;
}
