import fc from "fast-check";
import { expect, test } from "vitest";
import { headerJson } from "../../src/mcp/header-json.ts";

test("is a header that says the same, whatever the value holds", () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string({ unit: "binary" }), fc.string({ unit: "binary" })),
      (value) => {
        const text = headerJson(value);
        expect(text).toMatch(/^[\x20-\x7e]*$/);
        expect(new Headers({ x: text }).get("x")).toBe(text);
        expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)));
      },
    ),
  );
});
