import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeHeaderValue, encodeHeaderValue, nameHeader } from "../../src/mcp/headers.ts";
import type { JsonObject } from "../../src/mcp/ijson.ts";
import {
  type DeclaredHeader,
  declaredHeaders,
  paramHeaders,
  paramHeadersMismatch,
} from "../../src/mcp/param-headers.ts";

const annotated = (name: unknown, type: unknown = "string"): JsonObject =>
  JSON.parse(JSON.stringify({ type, "x-mcp-header": name }));
const schema = (properties: JsonObject, rest: JsonObject = {}): JsonObject => ({
  type: "object",
  properties,
  ...rest,
});

describe("encodeHeaderValue", () => {
  it("gives the examples of the specification", () => {
    expect(encodeHeaderValue("us-west1")).toBe("us-west1");
    expect(encodeHeaderValue("Hello, 世界")).toBe("=?base64?SGVsbG8sIOS4lueVjA==?=");
    expect(encodeHeaderValue(" padded ")).toBe("=?base64?IHBhZGRlZCA=?=");
    expect(encodeHeaderValue("line1\nline2")).toBe("=?base64?bGluZTEKbGluZTI=?=");
    expect(encodeHeaderValue("=?base64?literal?=")).toBe("=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=");
  });

  it("survives a real header field and the decoder, whatever the text", () => {
    const text = fc.oneof(
      fc.string({ unit: "grapheme" }),
      fc.string({ unit: fc.constantFrom(" ", "\t", "a", "\u0000", "é", "=?base64?", "?=") }),
    );
    fc.assert(
      fc.property(text, (value) => {
        const carried = new Headers({ "Mcp-Param-X": encodeHeaderValue(value) }).get("mcp-param-x");
        expect(carried).not.toBeNull();
        expect(carried).not.toBe("");
        expect(decodeHeaderValue(carried ?? "")).toBe(value);
      }),
    );
  });

  it("leaves what is safe as it is, a tab and spaces within included", () => {
    expect(encodeHeaderValue("a b\tc")).toBe("a b\tc");
    expect(encodeHeaderValue("=?base64?aGk=")).toBe("=?base64?aGk=");
  });

  it("encodes a value that is both markers at once", () => {
    expect(encodeHeaderValue("=?base64?=")).toBe(`=?base64?${btoa("=?base64?=")}?=`);
  });
});

describe("nameHeader", () => {
  it("mirrors the name or the URI, and nothing for other methods", () => {
    expect(nameHeader("tools/call", { name: "búsqueda" })).toBe("=?base64?YsO6c3F1ZWRh?=");
    expect(nameHeader("resources/read", { uri: "file:///a" })).toBe("file:///a");
    expect(nameHeader("tools/list", { name: "x" })).toBeNull();
  });
});

describe("declaredHeaders", () => {
  it("finds annotations on any chain of properties, in the order of the schema", () => {
    const found = declaredHeaders(
      schema({
        region: annotated("Region"),
        plain: { type: "string" },
        nested: schema({
          size: annotated("Size", "integer"),
          deep: schema({ on: annotated("On", "boolean") }),
        }),
        last: annotated("X-Last"),
      }),
    );
    expect(found).toEqual({
      ok: true,
      headers: [
        { name: "Region", path: ["region"] },
        { name: "Size", path: ["nested", "size"] },
        { name: "On", path: ["nested", "deep", "on"] },
        { name: "X-Last", path: ["last"] },
      ],
    });
  });

  it("refuses names that are no header names", () => {
    for (const name of ["", "a b", "a:b", "a\r\nb", "é", "a\u0000", 7, null, ["x"]]) {
      const found = declaredHeaders(schema({ a: annotated(name) }));
      expect(found.ok, JSON.stringify(name)).toBe(false);
    }
  });

  it("refuses the same name twice, whatever the case", () => {
    expect(declaredHeaders(schema({ a: annotated("Region"), b: annotated("REGION") })).ok).toBe(
      false,
    );
    expect(declaredHeaders(schema({ a: annotated("Region"), b: annotated("Regions") })).ok).toBe(
      true,
    );
  });

  it("refuses every type but string, integer and boolean", () => {
    for (const type of ["number", "object", "array", "null", ["string", "null"], null]) {
      expect(declaredHeaders(schema({ a: annotated("A", type) })).ok, String(type)).toBe(false);
    }
    expect(declaredHeaders(schema({ a: { "x-mcp-header": "A", enum: ["x"] } })).ok).toBe(false);
  });

  it("refuses an annotation that no chain of properties leads to", () => {
    const inner = schema({ a: annotated("A") });
    const places: JsonObject[] = [
      { type: "string", "x-mcp-header": "A" },
      schema({ list: { type: "array", items: inner } }),
      schema({ list: { type: "array", prefixItems: [inner] } }),
      schema({}, { allOf: [inner] }),
      schema({}, { oneOf: [inner] }),
      schema({}, { anyOf: [inner] }),
      schema({}, { not: inner }),
      schema({}, { if: inner }),
      JSON.parse(`{"then":${JSON.stringify(inner)}}`),
      schema({}, { else: inner }),
      schema({}, { additionalProperties: annotated("A") }),
      schema({}, { patternProperties: { "^a": annotated("A") } }),
      schema({}, { $defs: { a: annotated("A") } }),
      schema({}, { $defs: { properties: annotated("A") } }),
      schema({}, { dependentSchemas: { a: inner } }),
      schema({}, { unheardOf: { a: inner } }),
      { properties: [annotated("A")] },
    ];
    for (const place of places) {
      expect(declaredHeaders(place).ok, JSON.stringify(place)).toBe(false);
    }
  });

  it("does not take names and data for annotations", () => {
    for (const place of [
      schema({ "x-mcp-header": { type: "string" } }),
      schema({ a: { type: "object", default: { "x-mcp-header": "no" } } }),
      schema({ a: { enum: [{ "x-mcp-header": "no" }], const: { "x-mcp-header": "" } } }),
    ]) {
      expect(declaredHeaders(place)).toEqual({ ok: true, headers: [] });
    }
  });

  it("finds an annotated parameter that is itself called like a keyword", () => {
    const found = declaredHeaders(schema({ properties: annotated("P"), items: annotated("I") }));
    expect(found.ok && found.headers.map(({ path }) => path)).toEqual([["properties"], ["items"]]);
  });

  it("reads a schema that is nested deeper than any stack", () => {
    const depth = 100_000;
    const text = `${'{"not":'.repeat(depth)}{"x-mcp-header":"A"}${"}".repeat(depth)}`;
    expect(declaredHeaders(JSON.parse(text)).ok).toBe(false);
  });
});

describe("paramHeaders", () => {
  const declared: DeclaredHeader[] = [
    { name: "Region", path: ["region"] },
    { name: "Size", path: ["nested", "size"] },
    { name: "On", path: ["on"] },
  ];

  it("sends strings, integers and booleans as the specification writes them", () => {
    expect(paramHeaders(declared, { region: "ü", nested: { size: -7 }, on: false })).toEqual({
      "Mcp-Param-Region": "=?base64?w7w=?=",
      "Mcp-Param-Size": "-7",
      "Mcp-Param-On": "false",
    });
  });

  it("sends nothing for what is missing, null, inherited or not to be mirrored", () => {
    expect(paramHeaders(declared, {})).toEqual({});
    expect(paramHeaders(declared, { region: null, nested: [1], on: {} })).toEqual({});
    expect(paramHeaders(declared, { nested: { size: 2 ** 53 } })).toEqual({});
    expect(paramHeaders(declared, { nested: { size: 1.5 } })).toEqual({});
    const inherited = [{ name: "A", path: ["constructor"] }];
    expect(paramHeaders(inherited, {})).toEqual({});
    expect(paramHeadersMismatch(new Headers(), inherited, {})).toBeNull();
  });

  it("is what the server's check accepts, and any other argument is not", () => {
    const scalar = fc.oneof(
      fc.string({ unit: "grapheme" }),
      fc.maxSafeInteger(),
      fc.boolean(),
      fc.constant(null),
    );
    const args = fc.record(
      { region: scalar, nested: fc.record({ size: scalar }) },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(args, args, (sent, other) => {
        const headers = new Headers(paramHeaders(declared, sent));
        expect(paramHeadersMismatch(headers, declared, sent)).toBeNull();
        const mirrored = (a: typeof sent) => [a.region ?? null, a.nested?.size ?? null].map(String);
        if (mirrored(sent).join() === mirrored(other).join()) return;
        // A number and its digits as a string are one and the same header.
        const numeric = [sent, other]
          .flatMap(mirrored)
          .some((text) => text.trim() !== "" && !Number.isNaN(Number(text)));
        if (!numeric) expect(paramHeadersMismatch(headers, declared, other)).not.toBeNull();
      }),
    );
  });

  it("names the header that is wrong", () => {
    const args = { region: "eu", nested: { size: 3 } };
    expect(
      paramHeadersMismatch(new Headers({ "Mcp-Param-Region": "eu" }), declared, args),
    ).toContain("Mcp-Param-Size");
    const extra = new Headers({
      "Mcp-Param-Region": "eu",
      "Mcp-Param-Size": "3",
      "Mcp-Param-On": "true",
    });
    expect(paramHeadersMismatch(extra, declared, args)).toContain("Mcp-Param-On");
  });
});
