/**
 * @module
 * The plan schema's complaints, in words that an agent can act on.
 */
import type * as z from "zod";
import { planSchema } from "./plan.ts";

export type StructureIssue = {
  readonly path: readonly (string | number)[];
  /** A required field that is not there, as opposed to one that is wrong. */
  readonly missing: boolean;
  readonly message: string;
};

/** Unknown keys that are named one by one; a plan can hold very many. */
const MAX_NAMED_KEYS = 20;

type Issue = z.core.$ZodIssue;

export function structureIssues(plan: unknown): StructureIssue[] {
  const result = planSchema.safeParse(plan, { reportInput: true });
  return result.success ? [] : result.error.issues.flatMap((issue) => describe(issue, []));
}

function describe(issue: Issue, parent: StructureIssue["path"]): StructureIssue[] {
  const path = [
    ...parent,
    ...issue.path.map((step) => (typeof step === "symbol" ? String(step) : step)),
  ];
  const name = path.length === 0 ? "The plan" : path.join(".");
  const wrong = (message: string) => [{ path, missing: false, message }];
  switch (issue.code) {
    case "invalid_type":
      if (issue.input === undefined && path.length > 0) {
        return [
          {
            path,
            missing: true,
            message: `${name} is missing. Add it (${kindOf(issue.expected)}).`,
          },
        ];
      }
      return wrong(`${name} is of the wrong type. Make it ${kindOf(issue.expected)}.`);
    case "unrecognized_keys":
      // "__proto__" is named by the check that finds it at every depth.
      return issue.keys
        .filter((key) => key !== "__proto__")
        .slice(0, MAX_NAMED_KEYS)
        .map((key) => ({
          path: [...path, key],
          missing: false,
          message: `${name} has no field ${JSON.stringify(key)}. Remove it.`,
        }));
    case "invalid_union": {
      // The union is a tool's name or an object with one: tell of the one that was meant.
      const isObject =
        typeof issue.input === "object" && issue.input !== null && !Array.isArray(issue.input);
      const meant = issue.errors[isObject ? 1 : 0] ?? [];
      if (typeof issue.input === "string" || isObject)
        return meant.flatMap((inner) => describe(inner, path));
      return wrong(
        `${name} is of the wrong type. Make it the name of a tool, or {"name": …, "when": …}.`,
      );
    }
    case "too_big":
      return wrong(
        `${name} is too long. It may have ${issue.maximum} ${issue.origin === "array" ? "entries" : "characters"}.`,
      );
    case "invalid_format":
      return wrong(`${name} ${issue.message}. Correct it.`);
    default:
      return wrong(`${name}: ${issue.message}. Correct it.`);
  }
}

function kindOf(expected: string): string {
  switch (expected) {
    case "array":
      return "a list";
    case "object":
      return "an object";
    case "string":
      return "text";
    default:
      return `a ${expected}`;
  }
}
