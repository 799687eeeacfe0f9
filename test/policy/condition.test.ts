import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { evaluate, MAX_CONDITION_BYTES, parseCondition } from "../../src/policy/condition.ts";

const ARGS = {
  repo: "acme/api",
  branch: "release/1.2",
  count: 5,
  ratio: 0.5,
  draft: true,
  labels: ["bug", "api"],
  issues: [{ kind: "bug" }, { kind: "task" }],
  nothing: null,
  nested: { constructor: "own", level: 2 },
  constructor: "own",
};

function result(text: string, args: Record<string, unknown> = ARGS): boolean | string {
  const parsed = parseCondition(text);
  if (!parsed.ok) return `refused: ${parsed.refusal.message}`;
  const evaluated = evaluate(parsed.value, args);
  return evaluated.ok ? evaluated.value : `fails: ${evaluated.message}`;
}

describe("a condition over args", () => {
  test.each([
    ["args.repo == 'acme/api'", true],
    ['args["repo"] == "acme/api"', true],
    ["args.repo == 'acme/web'", false],
    ["args.count == 5 && args.count < 6 && args.ratio >= 0.5", true],
    ["int(args.count) + 1 == 6", true],
    ["args.draft", true],
    ["!args.draft", false],
    ["'api' in args.labels", true],
    ["'repo' in args", true],
    ["has(args.repo) && !has(args.owner)", true],
    ["has(args.owner)", false],
    ["args.nothing == null", true],
    ["args.labels.all(l, l in ['bug', 'api'])", true],
    ["args.issues.exists(i, i.kind == 'task')", true],
    ["args.issues.filter(i, i.kind == 'bug').size() == 1", true],
    ["args.issues.exists_one(i, i.kind == 'none')", false],
    ["['release/', 'hotfix/'].exists(p, args.branch.startsWith(p))", true],
    ["args.branch.matches('^release/[0-9.]+$')", true],
    ["args.branch.matches('^hotfix/')", false],
    ["args.repo.contains('/') && !args.repo.contains('web')", true],
    ["args.repo.contains(args.repo) && !''.contains(args.repo)", true],
    ["size(args.labels) == 2 && args.labels[0] == 'bug'", true],
    ["type(args.repo) == string", true],
    ["args.nested.level == 2 ? args.draft : false", true],
    ["args.constructor == 'own' && args.nested.constructor == 'own'", true],
    ["true || args.owner == 'x'", true],
  ])("%s is %s", (text, expected) => {
    expect(result(text)).toBe(expected);
  });

  test.each([
    ["args.owner == 'acme'"],
    ["args.repo"],
    ["args.labels"],
    ["args.repo + args.count == 'x'"],
    ["args.draft && args.repo"],
    ["args.issues.all(i, i.missing == 1)"],
    ["int(args.repo) == 1"],
    ["args.toString == args.valueOf"],
    ["args.nested.__proto__ == args.__proto__"],
    ["1 / 0 == 1"],
  ])("does not hold where it cannot be evaluated: %s", (text) => {
    expect(result(text)).toMatch(/^fails: /);
  });

  test("does not tell what the arguments hold when it fails", () => {
    const failed = result("bool(args.repo) || int(args.repo) == 1", { repo: "hunter2" });
    expect(failed).toMatch(/^fails: /);
    expect(failed).not.toContain("hunter2");
  });

  test("sees a key called __proto__ as any other, and no prototype", () => {
    const args = JSON.parse('{"__proto__": {"admin": true}, "x": {"__proto__": 1}}');
    expect(result("args['__proto__'].admin", args)).toBe(true);
    expect(result("has(args.admin)", args)).toBe(false);
  });
});

describe("a condition is refused", () => {
  test.each([
    ["that is no CEL", "args."],
    ["that is empty", ""],
    ["that assigns", "args.repo = 'x'"],
    ["that names another variable", "request.user == 'x'"],
    ["that names the library's own", "google.protobuf == args"],
    ["that cannot be a boolean", "'yes'"],
    ["that has a type error", "1 + 'a' == 2"],
    ["that calls an unknown function", "exec(args.repo)"],
    ["that calls a replaced method by its inner name", "args.repo.containsInLinearTime('a')"],
    ["that shadows args", "args.labels.all(args, args == 'x')"],
    ["that binds values", "cel.bind(x, args.repo + args.repo, x == x)"],
    ["that builds lists", "args.labels.map(l, l + l) == []"],
    ["that splits text", "args.repo.split('') == []"],
    ["that joins lists", "args.labels.join(args.repo) == ''"],
    ["that walks a computed list", "(args.labels + args.labels).all(l, true)"],
    ["that walks a list of computed values", "[args.repo + args.repo].all(l, true)"],
    ["that nests macros deeply", "args.a.all(x, args.a.all(y, args.a.all(z, true)))"],
    ["that computes a regular expression", "args.repo.matches(args.repo)"],
    ["that has a regular expression with a lookahead", "args.repo.matches('(?=a)')"],
    ["that nests deeply", `${"(".repeat(40)}args.draft${")".repeat(40)}`],
    ["that is too long", `args.draft${" ".repeat(MAX_CONDITION_BYTES)}`],
  ])("%s", (_, text) => {
    expect(result(text)).toMatch(/^refused: The /);
  });

  test("never with an exception, whatever the text", () => {
    const token = fc.constantFrom(
      ..."args . repo ( ) [ ] { } , == && || ! - ? : 'a' \"b\" 1 0x 1e9 1u b'' r'' in true null size( .all(x, .matches( has( .? [? \\u \\ ' \" \u0000 👍 x".split(
        " ",
      ),
    );
    const text = fc.oneof(
      fc.string({ unit: "binary", maxLength: 60 }),
      fc.array(token, { maxLength: 20 }).map((tokens) => tokens.join("")),
    );
    fc.assert(
      fc.property(text, fc.dictionary(fc.string(), fc.jsonValue()), (condition, args) => {
        const outcome = result(condition, args);
        expect(typeof outcome === "boolean" || /^(?:refused|fails): /.test(outcome)).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("the cost of a condition is bounded", () => {
  const many = Array.from({ length: 5_000 }, (_, at) => `label ${at}`);

  test.each([
    ["pairs of a long list", "args.l.all(x, args.l.all(y, x != y || x == y))", { l: many }],
    ["a long list, each held against all", "args.l.all(x, x in args.l)", { l: many }],
    ["one long object, by its keys", "args.o.all(x, args.o.all(y, true))", { o: { ...many } }],
    ["args as a whole", "args.all(x, args.all(y, true))", { ...many }],
    [
      "a regular expression over much text",
      "args.t.matches('(a|b|ab)*c')",
      { t: "ab".repeat(2 ** 21) },
    ],
    [
      "a literal list over much text",
      `[${"'a',".repeat(100)}].all(x, args.t.contains(x))`,
      { t: "b".repeat(2 ** 22) },
    ],
  ])("by refusing %s", (_, text, args) => {
    const started = performance.now();
    expect(result(text, args)).toMatch(/^fails: The arguments are too large/);
    expect(performance.now() - started).toBeLessThan(500);
  });

  test("by refusing arguments nested deeper than any honest call", () => {
    const args = { deep: JSON.parse(`${"[".repeat(50_000)}${"]".repeat(50_000)}`) };
    expect(result("args.deep == 1", args)).toMatch(/^fails: The arguments are nested/);
    expect(result("!has(args.other)", args)).toBe(true);
  });

  test("by counting only the arguments that it looks at", () => {
    const args = { path: "src/a.ts", content: "x".repeat(2 ** 22), l: many };
    expect(result("args.path.matches('[.]ts$')", args)).toBe(true);
    expect(result("!args.content.contains('password')", args)).toBe(true);
  });

  test("by searching text in linear time", () => {
    const text = "a".repeat(2 ** 20);
    const half = "a".repeat(200_000);
    const started = performance.now();
    // JavaScript's own search takes half a minute for this.
    expect(result("args.text.contains(args.sought)", { text, sought: `${half}b${half}` })).toBe(
      false,
    );
    expect(performance.now() - started).toBeLessThan(1_000);
  });

  test("without finding other text than JavaScript's own search", () => {
    const text = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 12 });
    const sought = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 5 });
    fc.assert(
      fc.property(text, sought, (haystack, needle) => {
        const found = result("args.text.contains(args.sought)", { text: haystack, sought: needle });
        expect(found).toBe(haystack.includes(needle));
      }),
      { numRuns: 2_000 },
    );
  });
});
