import { CallToolResultSchema } from "@modelcontextprotocol/sdk/types.js";
import canonicalize from "canonicalize";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { okResult, refusalResult, rpcResultBody } from "../../src/mcp/tool-result.ts";

/** Objects of what RFC 8785 has a form for: negative zero is written as 0 there. */
const structured = fc.dictionary(
  fc.string({ unit: "binary" }),
  fc.jsonValue({ stringUnit: "binary" }),
);

const canonical = (value: unknown): string => canonicalize(value) ?? "";
const parse = (text: string): unknown => JSON.parse(text);

describe("the result of a call that went well", () => {
  it("is, byte for byte, content, then structuredContent, with _meta in front", () => {
    const { hashed, withMeta } = okResult('{"path":"a \\"b\\"\\n"}');
    expect(hashed).toBe(
      '{"content":[{"text":"{\\"path\\":\\"a \\\\\\"b\\\\\\"\\\\n\\"}","type":"text"}],"structuredContent":{"path":"a \\"b\\"\\n"}}',
    );
    expect(withMeta('{"k":1}')).toBe(`{"_meta":{"k":1},${hashed.slice(1)}`);
  });

  it("is the RFC 8785 form of what it says, with and without _meta", () => {
    fc.assert(
      fc.property(structured, structured, (answer, meta) => {
        const text = canonical(answer);
        const whole = { content: [{ type: "text", text }], structuredContent: parse(text) };
        const { hashed, withMeta } = okResult(text);
        expect(hashed).toBe(canonical(whole));
        expect(parse(hashed)).toEqual(whole);
        expect(withMeta(canonical(meta))).toBe(
          canonical({ ...whole, _meta: parse(canonical(meta)) }),
        );
      }),
    );
  });

  it("is a CallToolResult", () => {
    const result = parse(okResult('{"a":1}').withMeta('{"dev.atlas-gate/receipt":{"seq":1}}'));
    expect(CallToolResultSchema.parse(result)).toEqual(result);
  });
});

describe("the result of a refusal", () => {
  it("is the code and the message as text, an error, and nothing structured", () => {
    const { hashed, withMeta } = refusalResult("PLAN_REQUIRED", 'Give a "plan_hash".');
    expect(hashed).toBe(
      '{"content":[{"text":"[PLAN_REQUIRED] Give a \\"plan_hash\\".","type":"text"}],"isError":true}',
    );
    expect(withMeta("{}")).toBe(`{"_meta":{},${hashed.slice(1)}`);
    expect(CallToolResultSchema.parse(parse(withMeta("{}")))).toEqual(parse(withMeta("{}")));
  });

  it("is the RFC 8785 form of what it says, whatever the message", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), structured, (message, meta) => {
        const whole = {
          content: [{ type: "text", text: `[NOT_FOUND] ${message}` }],
          isError: true,
        };
        const { hashed, withMeta } = refusalResult("NOT_FOUND", message);
        expect(hashed).toBe(canonical(whole));
        expect(withMeta(canonical(meta))).toBe(
          canonical({ ...whole, _meta: parse(canonical(meta)) }),
        );
      }),
    );
  });

  it("has U+FFFD for half a surrogate pair", () => {
    const { hashed } = refusalResult("NOT_FOUND", "a\ud800b");
    expect(hashed).toBe(
      '{"content":[{"text":"[NOT_FOUND] a\ufffdb","type":"text"}],"isError":true}',
    );
  });
});

describe("a response around a result", () => {
  it("is the JSON-RPC response of that id", () => {
    const id = fc.oneof(fc.string({ unit: "binary" }), fc.maxSafeInteger());
    fc.assert(
      fc.property(id, structured, (requestId, result) => {
        const body = rpcResultBody(requestId, canonical(result));
        const expected = { jsonrpc: "2.0", id: requestId, result: parse(canonical(result)) };
        expect(parse(body)).toEqual(expected);
      }),
    );
    expect(rpcResultBody('a"\n', "{}")).toBe('{"jsonrpc":"2.0","id":"a\\"\\n","result":{}}');
  });
});
