import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { canonicalJson } from "../../src/audit/canonical.ts";
import type { JsonObject } from "../../src/mcp/ijson.ts";
import { relayResult } from "../../src/mcp/relay-result.ts";

/** JSON texts, those among them that JavaScript cannot hold. */
const scalar = fc.oneof(
  fc.constantFrom("1e400", "-0.0", "9007199254740993", "1.0", "1E+2", '"\\ud800"', '"\\u0041\\/"'),
  fc.jsonValue({ maxDepth: 1 }).map((value) => JSON.stringify(value)),
);
const key = fc.oneof(
  fc
    .constantFrom(
      ..."content structuredContent isError resultType ttlMs cacheScope contents a __proto__".split(
        " ",
      ),
    )
    .map((name) => JSON.stringify(name)),
  fc.string().map((name) => JSON.stringify(name)),
  // The same names, written otherwise.
  fc.constantFrom('"\\u0072esultType"', '"ttl\\u004ds"', '"a\\u0000"'),
);
const gap = fc.constantFrom("", " ", "\n", "\t \r\n");

/** A member as text. */
const member = (names: fc.Arbitrary<string>, values: fc.Arbitrary<string>) =>
  fc.tuple(names, gap, gap, values).map(([name, before, after, value]) => ({
    name: String(JSON.parse(name)),
    value,
    text: `${name}${before}:${after}${value}`,
  }));

type Member = { name: string; value: string; text: string };

const inner = fc
  .array(member(key, scalar), { maxLength: 4 })
  .map((members) => written(members, " "));
const members = fc.array(member(key, fc.oneof(scalar, inner)), { maxLength: 6 });
const metaKey = fc.oneof(
  fc.constantFrom(
    '"acme/x"',
    '"dev.atlas-gate/receipt"',
    '"dev.atlas-gate/"',
    '"\\u0064ev.atlas-gate/error"',
    '"io.modelcontextprotocol/serverInfo"',
    '"dev.atlas-gate"',
  ),
  fc.string().map((name) => JSON.stringify(name)),
);
const meta = fc.option(fc.array(member(metaKey, scalar), { maxLength: 4 }), { nil: null });

function written(parts: readonly Member[], space: string): string {
  return `{${space}${parts.map(({ text }) => text).join(`${space},${space}`)}${space}}`;
}

const OWN = '"dev.atlas-gate/receipt":{"seq":7}';
const era = fc.constantFrom("2025" as const, "2026" as const);

function isTtl(value: unknown): boolean {
  return typeof value === "number" && Number.isInteger(value) && value >= 0;
}

function parsed(text: string): JsonObject {
  return JSON.parse(text);
}

/** What is left of a text when the gateway's changes are taken back; written from the contract, not from the code. */
function kept(all: readonly Member[], result: JsonObject, to: "2025" | "2026", cacheable: boolean) {
  const isObject = (value: unknown) =>
    typeof value === "object" && value !== null && !Array.isArray(value);
  return all.filter(({ name }) => {
    if (name === "_meta") return false;
    if (to === "2025") {
      if (["resultType", "ttlMs", "cacheScope"].includes(name)) return false;
      return name !== "structuredContent" || isObject(result[name]);
    }
    if (name === "resultType") return typeof result[name] === "string";
    if (!cacheable) return true;
    if (name === "ttlMs") return isTtl(result[name]);
    return name !== "cacheScope";
  });
}

describe("a relayed result", () => {
  it("is the text that came, but for the members that the contract names", () => {
    fc.assert(
      fc.property(
        members,
        meta,
        gap,
        era,
        fc.boolean(),
        fc.nat(),
        (body, own, space, to, cacheable, at) => {
          const all = [...body];
          if (own !== null) {
            const text = written(own, space);
            all.splice(at % (all.length + 1), 0, {
              name: "_meta",
              value: text,
              text: `"_meta":${text}`,
            });
          }
          const text = written(all, space);
          const result = parsed(text);
          const relayed = relayResult({ text, result, isIJson: false }, to, cacheable);
          const sent = relayed.withMeta([OWN]);
          expect(() => JSON.parse(sent)).not.toThrow();

          const passed = (own ?? []).filter(
            ({ name }) =>
              !name.startsWith("dev.atlas-gate/") && name !== "io.modelcontextprotocol/serverInfo",
          );
          const metaText = [...passed.map((each) => each.text), OWN].join(",");
          const rest = kept(all, result, to, cacheable).map((each) => each.text);
          const tail = rest.join(",");
          expect(sent.startsWith(`{"_meta":{${metaText}}`)).toBe(true);
          expect(sent.endsWith(tail === "" ? "}" : `${tail}}`)).toBe(true);
          // What stands between is the gateway's own, and only for the 2026 era.
          const between = sent.slice(
            `{"_meta":{${metaText}}`.length,
            sent.length - tail.length - 1,
          );
          const added = parsed(`{${between.replace(/^,/, "").replace(/,$/, "")}}`);
          const expected: JsonObject = {};
          if (to === "2026") {
            if (typeof result.resultType !== "string") expected.resultType = "complete";
            if (cacheable) {
              if (!isTtl(result.ttlMs)) expected.ttlMs = 0;
              expected.cacheScope = "private";
            }
          }
          expect(added).toEqual(expected);
          expect(relayed.hashed).not.toContain('dev.atlas-gate/receipt":{"seq":7}');
        },
      ),
      { numRuns: 2_000 },
    );
  });

  it("is hashed in its RFC 8785 form, as sent and without `_meta`, where it is I-JSON", () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.string(), fc.jsonValue(), { noNullPrototype: true }),
        era,
        fc.boolean(),
        (value, to, cacheable) => {
          const text = JSON.stringify({ ...value, _meta: { "acme/x": 1 } });
          const result = parsed(text);
          const relayed = relayResult({ text, result, isIJson: true }, to, cacheable);
          const { _meta, ...sent } = parsed(relayed.withMeta([OWN]));
          expect(relayed.hashed).toBe(canonicalJson(sent));
        },
      ),
    );
  });

  it("has no `_meta` where neither side has any", () => {
    const text = '{"content":[]}';
    const relayed = relayResult({ text, result: parsed(text), isIJson: true }, "2025", false);
    expect(relayed.withMeta([])).toBe('{"content":[]}');
    const empty = relayResult({ text: "{}", result: {}, isIJson: true }, "2025", false);
    expect(empty.withMeta([])).toBe("{}");
  });
});
