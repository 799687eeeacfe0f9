import { createDecipheriv, createHmac } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { openText, sealText } from "../../src/crypto/aead.ts";

const KEY = new Uint8Array(32).fill(9);

describe("a sealed text", () => {
  it("opens as it was, and is another text each time", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), fc.string(), (text, aad) => {
        const sealed = sealText(KEY, "a-use", text, aad);
        expect(openText(KEY, "a-use", sealed, aad)).toBe(text);
        expect(sealText(KEY, "a-use", text, aad)).not.toBe(sealed);
      }),
    );
  });

  it("is AES-256-GCM under a key of the purpose's own", () => {
    const bytes = Buffer.from(sealText(KEY, "a-use", "hello", "place"), "base64");
    const key = createHmac("sha256", KEY).update("atlas-gate/a-use/v1").digest();
    const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, 12));
    decipher.setAAD(Buffer.from("place"));
    decipher.setAuthTag(bytes.subarray(-16));
    const plain = decipher.update(bytes.subarray(12, -16));
    expect(Buffer.concat([plain, decipher.final()]).toString()).toBe("hello");
  });

  it("opens for no other key, purpose or place", () => {
    const sealed = sealText(KEY, "a-use", "hello", "place");
    expect(() => openText(new Uint8Array(32), "a-use", sealed, "place")).toThrow();
    expect(() => openText(KEY, "another", sealed, "place")).toThrow();
    expect(() => openText(KEY, "a-use", sealed, "elsewhere")).toThrow();
  });

  it("opens neither changed, nor cut, nor in loose base64", () => {
    const sealed = sealText(KEY, "a-use", "hello", "place");
    const bytes = Buffer.from(sealed, "base64");
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(() => openText(KEY, "a-use", flipped.toString("base64"), "place")).toThrow();
    }
    for (const loose of ["", "AAAA", ` ${sealed}`, `${sealed}\n`, sealed.replace(/=*$/, "")]) {
      if (loose === sealed) continue;
      expect(() => openText(KEY, "a-use", loose, "place")).toThrow();
    }
  });
});
