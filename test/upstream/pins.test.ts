import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { JsonValue } from "../../src/mcp/ijson.ts";
import { difference, MAX_CHANGES, MAX_SHOWN_CHARS, pinOf } from "../../src/upstream/pins.ts";

const json = fc
  .jsonValue({ maxDepth: 4 })
  .map((value): JsonValue => JSON.parse(JSON.stringify(value)));

/** Puts what `to` has at a pointer in the place of what `from` has there; arrays get the length of `to`'s. */
function patched(from: JsonValue, to: JsonValue, pointer: string): JsonValue {
  const [head, ...rest] = pointer.split("/").slice(1);
  if (head === undefined) return to;
  const key = head.replaceAll("~1", "/").replaceAll("~0", "~");
  const members = new Map(membersOf(from));
  const own = members.get(key);
  const their = new Map(membersOf(to)).get(key);
  const inner = rest.map((part) => `/${part}`).join("");
  if (their === undefined) members.delete(key);
  else members.set(key, own === undefined ? their : patched(own, their, inner));
  const texts = [...members].map(([name, value]) => [name, JSON.stringify(value)] as const);
  return JSON.parse(
    Array.isArray(from)
      ? `[${texts.map(([, text]) => text).join(",")}]`
      : `{${texts.map(([name, text]) => `${JSON.stringify(name)}:${text}`).join(",")}}`,
  );
}

function membersOf(value: JsonValue): [string, JsonValue][] {
  return typeof value === "object" && value !== null ? Object.entries(value) : [];
}

describe("a pin", () => {
  it("is the SHA-256 of the RFC 8785 form, whatever the order of keys", () => {
    // printf '{"a":1,"b":[true]}' | sha256sum
    const pin = "90eddf64b875cb5fa184bb12503cc7309b6ce21b175521a80bd8d83082bae604";
    expect(pinOf({ a: 1, b: [true] })).toBe(pin);
    expect(pinOf({ b: [true], a: 1 })).toBe(pin);
    expect(pinOf("x")).not.toBe(pinOf("y"));
  });

  it("is refused for half a surrogate pair", () => {
    expect(() => pinOf({ description: "\ud800" })).toThrow(TypeError);
  });
});

describe("a difference", () => {
  it("is empty exactly when the pins are the same", () => {
    fc.assert(
      fc.property(json, json, (a, b) => {
        const { changes, more } = difference(a, b);
        expect(changes.length + more === 0).toBe(pinOf(a) === pinOf(b));
        expect(difference(a, a)).toEqual({ changes: [], more: 0 });
      }),
    );
  });

  it("leads from one copy to the other, place by place", () => {
    const tool = fc.record({
      name: fc.constantFrom("a", "b"),
      description: fc.string({ maxLength: 8 }),
      schema: fc.dictionary(fc.constantFrom("x", "~/", "__proto__", "y"), json, { maxKeys: 4 }),
      tags: fc.array(fc.constantFrom("p", "q"), { maxLength: 3 }),
    });
    fc.assert(
      fc.property(tool, tool, (one, two) => {
        const [a, b]: JsonValue[] = [
          JSON.parse(JSON.stringify(one)),
          JSON.parse(JSON.stringify(two)),
        ];
        if (a === undefined || b === undefined) return;
        const { changes, more } = difference(a, b);
        if (more > 0 || changes.some(({ path }) => /\\u\{|…/.test(path))) return;
        // What goes is taken from the end, so that the elements before it keep their places.
        const gone = changes.filter(({ after }) => after === null).reverse();
        const order = [...changes.filter(({ after }) => after !== null), ...gone];
        const result = order.reduce((value, { path }) => patched(value, b, path), a);
        expect(pinOf(result)).toBe(pinOf(b));
      }),
    );
  });

  it("says what is there anew, what is gone and what is another", () => {
    const before = { name: "t", annotations: { readOnlyHint: true }, list: [1, 2] };
    const after = { name: "t", annotations: { readOnlyHint: false }, list: [1], title: "T" };
    expect(difference(before, after)).toEqual({
      changes: [
        { path: "/annotations/readOnlyHint", before: "true", after: "false" },
        { path: "/list/1", before: "2", after: null },
        { path: "/title", before: null, after: '"T"' },
      ],
      more: 0,
    });
    expect(difference([], {})).toEqual({
      changes: [{ path: "", before: "[]", after: "{}" }],
      more: 0,
    });
  });

  it("shows a change wherever it is in a long text", () => {
    const text = "x".repeat(50_000);
    const { changes } = difference({ d: `${text}${text}` }, { d: `${text}IGNORE ALL${text}` });
    expect(changes).toHaveLength(1);
    expect(changes[0]?.after).toContain("IGNORE ALL");
    expect(changes[0]?.after?.length).toBeLessThan(200);
    expect(changes[0]?.before).not.toContain("IGNORE");
  });

  it("is bounded, and says how much is left out", () => {
    const many = Object.fromEntries(Array.from({ length: 1_000 }, (_, at) => [`k${at}`, at]));
    const { changes, more } = difference({}, many);
    expect([changes.length, more]).toEqual([MAX_CHANGES, 1_000 - MAX_CHANGES]);
    const long = difference({}, { d: "y".repeat(100_000) });
    expect(long.changes[0]?.after?.length).toBeLessThan(MAX_SHOWN_CHARS + 50);
    const deep = difference({ ["k".repeat(10_000)]: 1 }, {});
    expect(deep.changes[0]?.path.length).toBeLessThan(600);
  });

  it("shows characters that hide", () => {
    const { changes } = difference({ d: "a" }, { d: "a\u200b\u202e\u{e0041}" });
    expect(changes[0]?.after).toBe('"a\\u{200b}\\u{202e}\\u{e0041}"');
  });
});
