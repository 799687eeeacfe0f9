/**
 * @module
 * Lint: what keeps a plan from being saved (errors), and what an operator should look at twice
 * before approving it (warnings). It looks at whatever is there, so that one run tells all.
 */
import canonicalize from "canonicalize";
import { parseCondition } from "./condition.ts";
import { foldedProblem, MAX_PATTERNS } from "./glob.ts";
import { globContains } from "./glob-containment.ts";
import { type Glob, parseGlob } from "./glob-syntax.ts";
import { jsonProblems, pointerTo } from "./json-limits.ts";
import { structureIssues } from "./lint-structure.ts";
import { ambiguousWords, isPlaceholder } from "./lint-wording.ts";
import { utf8Bytes } from "./paths.ts";
import { FILE_CHANGING_TOOLS, MAX_PLAN_BYTES, parseTimestamp } from "./plan.ts";

export type LintCode =
  | "PLAN_MISSING_FIELD"
  | "PLAN_INVALID_STRUCTURE"
  | "PLAN_INVALID_PHASE_ID"
  | "PLAN_INVALID_PATH"
  | "PLAN_PATH_ESCAPE"
  | "PLAN_EMPTY_SCOPE"
  | "PLAN_NOT_ENFORCEABLE"
  | "PLAN_SCOPE_TOO_WIDE"
  | "PLAN_AMBIGUOUS_LANGUAGE";

export type LintFinding = {
  code: LintCode;
  severity: "error" | "warning";
  /** RFC 6901 pointer into the plan. */
  path: string;
  /** What is wrong and what to do. */
  message: string;
};

/** `ok` is false with any error; warnings alone leave it true. */
export type LintReport = { ok: boolean; findings: LintFinding[] };

/** Findings of one answer, errors first: who has so many wants to see a few of each, not all. */
const MAX_FINDINGS = 100;

const PHASE_ID = /^[A-Z0-9_]+$/;

/** Lints any JSON value; never throws. `nowMs` is Unix milliseconds. */
export function lintPlan(plan: unknown, nowMs: number): LintReport {
  const lint = new Lint(plan, nowMs);
  lint.run();
  const findings = lint.findings.toSorted((a, b) => a.severity.localeCompare(b.severity));
  return {
    ok: findings.every((finding) => finding.severity !== "error"),
    findings: findings.slice(0, MAX_FINDINGS),
  };
}

type Path = readonly (string | number)[];

/**
 * Characters compared with characters over all containment checks of a plan: a
 * third of a second. Fifty phases of ten patterns in a scope of twenty need a
 * twentieth of it; a plan is written by an agent and may be made to need hours.
 */
const MAX_CONTAINMENT_STEPS = 100_000_000;

/** Conditions that one call may have to evaluate: each may take long over large arguments. */
const MAX_CONDITIONS_A_TOOL = 16;

class Lint {
  readonly findings: LintFinding[] = [];
  readonly #plan: unknown;
  readonly #nowMs: number;
  /** Verdicts on phase patterns, which phases often share. */
  readonly #within = new Map<string, boolean>();
  #containmentSteps = 0;

  constructor(plan: unknown, nowMs: number) {
    this.#plan = plan;
    this.#nowMs = nowMs;
  }

  run(): void {
    if (!this.#isUsableJson()) return;
    for (const issue of structureIssues(this.#plan)) {
      this.#error(
        issue.missing ? "PLAN_MISSING_FIELD" : "PLAN_INVALID_STRUCTURE",
        issue.path,
        issue.message,
      );
    }
    this.#texts();
    this.#phaseIds();
    this.#expiry();
    const scope = this.#globs(["scope", "paths"]);
    this.#globs(["forbidden", "paths"], foldedProblem);
    for (const { pointer, glob } of scope) this.#width(pointer, glob);
    for (const at of this.#items(["phases"]).keys())
      this.#phasePaths(["phases", at, "paths"], scope);
    this.#conditions(["scope", "tools"]);
    this.#conditions(["forbidden", "tools"]);
    this.#emptyScope();
  }

  #error(code: LintCode, path: Path, message: string): void {
    this.findings.push({ code, severity: "error", path: pointerTo(...path), message });
  }

  #warn(code: LintCode, path: Path, message: string): void {
    this.findings.push({ code, severity: "warning", path: pointerTo(...path), message });
  }

  /** The value at a place, or undefined where the plan has none. */
  #at(path: Path): unknown {
    return path.reduce<unknown>(
      (value, step) =>
        typeof value === "object" && value !== null
          ? Object.getOwnPropertyDescriptor(value, step)?.value
          : undefined,
      this.#plan,
    );
  }

  /** A list, cut where its bound is: what is past it is an error already, and not worth the time. */
  #items(path: Path): readonly unknown[] {
    const value = this.#at(path);
    return Array.isArray(value) ? value.slice(0, MAX_PATTERNS) : [];
  }

  /** False where the rest of lint would have nothing to hold on to. */
  #isUsableJson(): boolean {
    const problems = jsonProblems(this.#plan);
    for (const { pointer, message } of problems) {
      this.findings.push({
        code: "PLAN_INVALID_STRUCTURE",
        severity: "error",
        path: pointer,
        message,
      });
    }
    if (problems.some((problem) => problem.fatal)) return false;
    const size = utf8Bytes(canonicalize(this.#plan) ?? "");
    if (size <= MAX_PLAN_BYTES) return true;
    const message = `The plan has ${size} bytes, and may have ${MAX_PLAN_BYTES}. Split it into several plans.`;
    this.#error("PLAN_INVALID_STRUCTURE", [], message);
    return false;
  }

  #texts(): void {
    this.#text(["title"], "title");
    this.#text(["objective"], "objective");
    for (const at of this.#items(["phases"]).keys()) {
      this.#text(["phases", at, "objective"], "objective");
      this.#text(["phases", at, "verification"], "verification");
    }
    this.#text(["rollback"], "rollback");
  }

  #text(path: Path, what: "title" | "objective" | "verification" | "rollback"): void {
    const text = this.#at(path);
    if (typeof text !== "string") return;
    if (text.trim() === "") {
      this.#error("PLAN_MISSING_FIELD", path, `The ${what} is empty. Say it in a sentence.`);
      return;
    }
    if (what === "title") return;
    if (isPlaceholder(text)) {
      this.#error(
        "PLAN_NOT_ENFORCEABLE",
        path,
        `The ${what} ${JSON.stringify(text)} says nothing that can be held to. ${ADVICE[what]}`,
      );
      return;
    }
    const words = ambiguousWords(text);
    if (words.length === 0) return;
    const quoted = words.map((word) => `"${word}"`).join(", ");
    this.#warn(
      "PLAN_AMBIGUOUS_LANGUAGE",
      path,
      `The ${what} leaves open what is meant: ${quoted}. Say exactly what will be done.`,
    );
  }

  #phaseIds(): void {
    const phases = this.#at(["phases"]);
    if (Array.isArray(phases) && phases.length === 0) {
      this.#error("PLAN_MISSING_FIELD", ["phases"], "The plan has no phase. Add at least one.");
    }
    const seen = new Set<string>();
    for (const at of this.#items(["phases"]).keys()) {
      const path = ["phases", at, "id"];
      const id = this.#at(path);
      if (typeof id !== "string") continue;
      if (!PHASE_ID.test(id)) {
        this.#error(
          "PLAN_INVALID_PHASE_ID",
          path,
          `The phase id ${JSON.stringify(id)} is not of capital letters, digits and "_". Write one such as PHASE_${at + 1}.`,
        );
      } else if (seen.has(id)) {
        this.#error(
          "PLAN_INVALID_PHASE_ID",
          path,
          `The phase id ${id} is taken by an earlier phase. Give each its own.`,
        );
      }
      seen.add(id);
    }
  }

  #expiry(): void {
    const expiresAt = this.#at(["expires_at"]);
    if (typeof expiresAt !== "string") return;
    const ends = parseTimestamp(expiresAt);
    if (ends === null) {
      this.#error(
        "PLAN_INVALID_STRUCTURE",
        ["expires_at"],
        "expires_at is no RFC 3339 time with a zone. Write one such as 2027-01-01T00:00:00Z.",
      );
    } else if (ends <= this.#nowMs) {
      this.#error(
        "PLAN_INVALID_STRUCTURE",
        ["expires_at"],
        "expires_at has passed. Name a time to come, or leave it out.",
      );
    }
  }

  /** Lints a list of patterns, and gives those that are fit for use. */
  #globs(
    list: Path,
    alsoCheck?: (pattern: string) => string | null,
  ): { pointer: Path; glob: Glob }[] {
    const usable: { pointer: Path; glob: Glob }[] = [];
    for (const [at, pattern] of this.#items(list).entries()) {
      if (typeof pattern !== "string") continue;
      const pointer = [...list, at];
      const parsed = parseGlob(pattern);
      const problem = parsed.ok ? alsoCheck?.(pattern) : parsed.problem;
      if (typeof problem === "string") {
        const escapes = !parsed.ok && parsed.kind === "escape";
        this.#error(escapes ? "PLAN_PATH_ESCAPE" : "PLAN_INVALID_PATH", pointer, problem);
      } else if (parsed.ok) usable.push({ pointer, glob: parsed.glob });
    }
    return usable;
  }

  #width(pointer: Path, glob: Glob): void {
    const first = glob.segments[0];
    const isLiteral =
      first?.globstar === false && first.tokens.every(({ kind }) => kind === "unit");
    if (isLiteral) return;
    this.#warn(
      "PLAN_SCOPE_TOO_WIDE",
      pointer,
      `${glob.text} does not begin with a folder or file by name, so it reaches over the whole workspace. Name the folders that are meant, such as src/**.`,
    );
  }

  #phasePaths(list: Path, scope: readonly { glob: Glob }[]): void {
    for (const { pointer, glob } of this.#globs(list)) {
      if (!Array.isArray(this.#at(["scope", "paths"]))) continue;
      if (this.#isWithin(glob, scope)) continue;
      this.#error(
        "PLAN_PATH_ESCAPE",
        pointer,
        `${glob.text} does not lie within one pattern of scope.paths. Add it to scope.paths, or narrow the phase.`,
      );
    }
  }

  /** Whether a scope pattern holds all of a phase's; not, once the plan has used up its time. */
  #isWithin(glob: Glob, scope: readonly { glob: Glob }[]): boolean {
    const known = this.#within.get(glob.text);
    if (known !== undefined) return known;
    const within = scope.some((outer) => {
      this.#containmentSteps += outer.glob.text.length * glob.text.length;
      return this.#containmentSteps <= MAX_CONTAINMENT_STEPS && globContains(outer.glob, glob);
    });
    this.#within.set(glob.text, within);
    return within;
  }

  #conditions(list: Path): void {
    const conditional = new Map<unknown, number>();
    for (const at of this.#items(list).keys()) {
      const path = [...list, at, "when"];
      const when = this.#at(path);
      if (typeof when !== "string") continue;
      const name = this.#at([...list, at, "name"]);
      const count = (conditional.get(name) ?? 0) + 1;
      conditional.set(name, count);
      if (count === MAX_CONDITIONS_A_TOOL + 1) {
        this.#error(
          "PLAN_INVALID_STRUCTURE",
          [...list, at],
          `${String(name)} has more than ${MAX_CONDITIONS_A_TOOL} conditions. Join them with || or leave some out.`,
        );
      }
      if (count > MAX_CONDITIONS_A_TOOL) continue;
      const parsed = parseCondition(when);
      if (!parsed.ok) this.#error("PLAN_INVALID_PATH", path, parsed.refusal.message);
    }
  }

  #emptyScope(): void {
    const paths = this.#at(["scope", "paths"]);
    const tools = this.#at(["scope", "tools"]);
    if (!Array.isArray(paths) || !Array.isArray(tools)) return;
    if (tools.length === 0) {
      const nothing = paths.length === 0;
      this.#error(
        "PLAN_EMPTY_SCOPE",
        nothing ? ["scope"] : ["scope", "tools"],
        `The scope names ${nothing ? "no path and no tool" : "no tool"}, so the plan allows nothing. Name the tools that may change something, such as write_file.`,
      );
      return;
    }
    if (paths.length > 0) return;
    const names = [...tools.keys()].map(
      (at) => this.#at(["scope", "tools", at, "name"]) ?? tools[at],
    );
    const changing = names.find(
      (name) => typeof name === "string" && FILE_CHANGING_TOOLS.has(name),
    );
    if (changing === undefined) return;
    this.#error(
      "PLAN_EMPTY_SCOPE",
      ["scope", "paths"],
      `The scope names ${changing} but no path that it may change. Name the paths, such as src/**.`,
    );
  }
}

const ADVICE = {
  objective: "Say what will be different when it is done.",
  verification: "Name the command or the check that shows it is done.",
  rollback: "Say how the change is taken back.",
} as const;
