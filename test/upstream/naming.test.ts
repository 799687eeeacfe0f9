import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  describeClash,
  type ExposedName,
  exposedName,
  findClashes,
  nameProblem,
  overlappingPrefixes,
} from "../../src/upstream/naming.ts";

describe("an exposed name", () => {
  it("is the upstream's own behind the prefix and an underscore", () => {
    expect(exposedName("github", "create_issue")).toBe("github_create_issue");
    expect(exposedName("", "create_issue")).toBe("create_issue");
  });

  it("keeps 64 characters as they are and shortens 65", () => {
    const name = "x".repeat(57);
    expect(exposedName("github", name)).toBe(`github_${name}`);
    expect(exposedName("github", `${name}x`)).toBe(
      // sha256 of "github_" and 58 times "x"
      `github_${"x".repeat(48)}_${createHash("sha256").update(`github_${name}x`).digest("hex").slice(0, 8)}`,
    );
  });

  it("is never over 64 characters, begins as the full name does, and tells long names apart", () => {
    const part = fc.string({ unit: "grapheme", maxLength: 120 });
    fc.assert(
      fc.property(part, part, part, (prefix, one, two) => {
        const [a, b] = [exposedName(prefix, one), exposedName(prefix, two)];
        expect([...a].length).toBeLessThanOrEqual(64);
        expect(a.isWellFormed()).toBe(true);
        const full = prefix === "" ? one : `${prefix}_${one}`;
        expect([...a].slice(0, 55)).toEqual([...full].slice(0, 55));
        expect(a === b).toBe(one === two);
      }),
    );
  });

  it("must be one that MCP allows for a tool; prompts are freer", () => {
    for (const name of ["a", "A_b-c.9", "x".repeat(64)]) {
      expect(nameProblem("tool", name)).toBeNull();
    }
    for (const name of ["", "a b", "a/b", "é", "a\n", "a\u200b"]) {
      expect(nameProblem("tool", name)).not.toBeNull();
    }
    expect(nameProblem("prompt", "Review the Code é")).toBeNull();
    for (const name of ["", "a\u0000", "a\u202e", "\ud800"]) {
      expect(nameProblem("prompt", name)).not.toBeNull();
    }
  });
});

function named(
  upstream: string | null,
  name: string,
  exposed: string,
  kind: "tool" | "prompt" = "tool",
): ExposedName {
  return { kind, upstream, name, exposed };
}

describe("a clash", () => {
  it("is found with another upstream, with a built-in tool, and within the newcomer", () => {
    const held = [named(null, "read_file", "read_file"), named("a", "b_c", "a_b_c")];
    const clashes = findClashes(
      [
        named("x", "read_file", "read_file"),
        named("a_b", "c", "a_b_c"),
        named("x", "fine", "fine"),
        named("y", "fine", "fine"),
      ],
      held,
    );
    expect(clashes.map(describeClash)).toEqual([
      "The tool read_file of the upstream x and the built-in tool read_file would both be called read_file",
      "The tool c of the upstream a_b and the tool b_c of the upstream a would both be called a_b_c",
      "The tool fine of the upstream y and the tool fine of the upstream x would both be called fine",
    ]);
  });

  it("is none with itself, nor between a tool and a prompt", () => {
    const one = named("x", "t", "x_t");
    expect(findClashes([one, one], [one])).toEqual([]);
    expect(findClashes([named("y", "t", "x_t", "prompt")], [one])).toEqual([]);
  });

  it("is there exactly when two differ in all but kind and exposed name", () => {
    const arbitrary = fc.record({
      kind: fc.constantFrom("tool" as const, "prompt" as const),
      upstream: fc.constantFrom("a", "b", null),
      name: fc.constantFrom("n", "m"),
      exposed: fc.constantFrom("p", "q", "r"),
    });
    fc.assert(
      fc.property(fc.array(arbitrary, { maxLength: 12 }), (all) => {
        const isClash = all.some((one, at) =>
          all
            .slice(0, at)
            .some(
              (other) =>
                one.kind === other.kind &&
                one.exposed === other.exposed &&
                (one.upstream !== other.upstream || one.name !== other.name),
            ),
        );
        expect(findClashes(all, []).length > 0).toBe(isClash);
      }),
    );
  });
});

describe("prefixes of resources", () => {
  it("overlap when one begins with the other", () => {
    expect(overlappingPrefixes(["github://"], ["gitlab://"])).toBeNull();
    expect(overlappingPrefixes(["a://x", "github://"], ["github://acme/"])).toEqual([
      "github://",
      "github://acme/",
    ]);
    expect(overlappingPrefixes(["github://acme/"], ["github://"])).not.toBeNull();
    expect(overlappingPrefixes(["s://"], ["s://"])).not.toBeNull();
    expect(overlappingPrefixes([], ["s://"])).toBeNull();
  });
});
