import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as node from "../../src/audit/hash-node.ts";
import * as portable from "../../src/audit/hash-portable.ts";

describe("SHA-256", () => {
  const vectors: [string, string][] = [
    ["", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
    ["abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"],
    ["é😀", "1184d1f608158eea09d297565575892231550c403aaa913008d867a97cfd5c76"],
  ];
  it.each(vectors)("hashes %j as UTF-8, on either implementation", (text, hex) => {
    expect(node.sha256Hex(text)).toBe(hex);
    expect(portable.sha256Hex(text)).toBe(hex);
    expect(Buffer.from(portable.sha256Bytes(text)).toString("hex")).toBe(hex);
  });

  it("is the same on both, for texts and bytes", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.uint8Array(), (text, bytes) => {
        expect(portable.sha256Hex(text)).toBe(node.sha256Hex(text));
        expect(portable.sha256Hex(bytes)).toBe(node.sha256Hex(bytes));
        expect(node.sha256Hex(text)).toBe(node.sha256Hex(new TextEncoder().encode(text)));
      }),
    );
  });
});

describe("HMAC-SHA-256", () => {
  // RFC 4231, test cases 1 and 2.
  it("gives the vectors of RFC 4231", () => {
    const key = new Uint8Array(20).fill(0x0b);
    expect(node.hmacSha256Hex(key, "Hi There")).toBe(
      "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
    );
    const mac = node.hmacSha256(new TextEncoder().encode("Jefe"), "what do ya want for nothing?");
    expect(Buffer.from(mac).toString("hex")).toBe(
      "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    );
  });
});
