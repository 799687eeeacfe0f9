import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sha256Hex } from "../../src/audit/hash-node.ts";
import {
  ambientCloseMs,
  ambientSessionId,
  firstIdAt,
  isMintedSessionId,
  looksAmbient,
  mintSessionId,
} from "../../src/session/ids.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const DAY_MS = 86_400_000;

const key = fc.uint8Array({ minLength: 32, maxLength: 32 });
const random = fc.uint8Array({ minLength: 5, maxLength: 8 });
const time = fc.integer({ min: 0, max: 2 ** 48 - 1 });

function bytesOf(id: string): Uint8Array {
  return Uint8Array.from(Buffer.from(id.replaceAll("-", ""), "hex"));
}

function idOf(bytes: Uint8Array): string {
  return Buffer.from(bytes)
    .toString("hex")
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

describe("a minted session id", () => {
  test("is a UUID of version 8 that begins with its time, and is recognised", () => {
    fc.assert(
      fc.property(key, time, random, (secret, ms, bytes) => {
        const id = mintSessionId(secret, ms, bytes);
        expect(id).toMatch(UUID);
        expect(id[14]).toBe("8");
        expect("89ab").toContain(id[19]);
        expect(Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)).toBe(ms);
        expect(isMintedSessionId(secret, id)).toBe(true);
      }),
    );
  });

  test("is refused with any bit of it flipped", () => {
    fc.assert(
      fc.property(key, time, random, (secret, ms, bytes) => {
        const minted = bytesOf(mintSessionId(secret, ms, bytes));
        for (let bit = 0; bit < 128; bit++) {
          const forged = minted.slice();
          forged[bit >> 3] = (forged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
          expect(isMintedSessionId(secret, idOf(forged))).toBe(false);
        }
      }),
      { numRuns: 25 },
    );
  });

  test("is refused under another key", () => {
    fc.assert(
      fc.property(key, key, time, random, (secret, other, ms, bytes) => {
        fc.pre(Buffer.compare(secret, other) !== 0);
        expect(isMintedSessionId(other, mintSessionId(secret, ms, bytes))).toBe(false);
      }),
    );
  });

  test("is refused in any other spelling, and nothing else is one", () => {
    fc.assert(
      fc.property(key, time, random, (secret, ms, bytes) => {
        const id = mintSessionId(secret, ms, bytes);
        const bare = id.replaceAll("-", "");
        for (const other of [bare, `{${id}}`, `${id}\n`, ` ${id}`, `urn:uuid:${id}`, `${id}0`]) {
          expect(isMintedSessionId(secret, other)).toBe(false);
        }
        if (id !== id.toUpperCase()) {
          expect(isMintedSessionId(secret, id.toUpperCase())).toBe(false);
        }
      }),
    );
    fc.assert(
      fc.property(
        key,
        fc.oneof(fc.string(), fc.uuid(), fc.uuid({ version: 8 })),
        (secret, text) => {
          expect(isMintedSessionId(secret, text)).toBe(false);
        },
      ),
    );
  });

  test("sorts as text in the order of time", () => {
    fc.assert(
      fc.property(key, time, time, random, random, (secret, a, b, one, two) => {
        fc.pre(a !== b);
        const [first, second] = [mintSessionId(secret, a, one), mintSessionId(secret, b, two)];
        expect(first < second).toBe(a < b);
      }),
    );
  });

  test("differs with its random bytes: of five, all but the 2 variant bits and the 4 version bits", () => {
    fc.assert(
      fc.property(key, time, random, fc.nat({ max: 39 }), (secret, ms, bytes, bit) => {
        const other = bytes.slice();
        other[bit >> 3] = (other[bit >> 3] ?? 0) ^ (0x80 >> (bit & 7));
        const fixed = bit < 4 || bit === 16 || bit === 17;
        const [first, second] = [
          mintSessionId(secret, ms, bytes),
          mintSessionId(secret, ms, other),
        ];
        expect(first === second).toBe(fixed);
      }),
    );
  });
});

describe("an ambient session id", () => {
  const owner = fc.record({
    tenant: fc.stringMatching(/^[a-z]{1,8}$/),
    principal: fc.stringMatching(/^key:[a-z0-9]{16}$/),
  });

  test("is the same all day, another on another day and for another owner", () => {
    fc.assert(
      fc.property(owner, owner, fc.integer({ min: 0, max: 50_000 }), (one, two, day) => {
        const at = (ms: number) => ambientSessionId(sha256Hex, one, day * DAY_MS + ms);
        expect(at(DAY_MS - 1)).toBe(at(0));
        expect(at(DAY_MS)).not.toBe(at(0));
        const other = ambientSessionId(sha256Hex, two, day * DAY_MS);
        const same = one.tenant === two.tenant && one.principal === two.principal;
        expect(other === at(0)).toBe(same);
        expect(looksAmbient(at(0))).toBe(true);
      }),
    );
  });

  test("is no minted id", () => {
    fc.assert(
      fc.property(key, owner, time, (secret, who, ms) => {
        expect(isMintedSessionId(secret, ambientSessionId(sha256Hex, who, ms))).toBe(false);
      }),
    );
  });

  test("is what the contract's formula gives", () => {
    // SHA-256 of "atlas-gate/ambient/v1\ndefault\nkey:0123456789abcdef\n2026-11-22\n".
    const owned = { tenant: "default", principal: "key:0123456789abcdef" };
    const at = Date.UTC(2026, 10, 22, 13, 37);
    expect(ambientSessionId(sha256Hex, owned, at)).toBe("01a2008d-7400-8c1f-8248-06696f15a7ea");
  });

  test("closes at 01:00 UTC of the next day", () => {
    expect(ambientCloseMs(Date.UTC(2026, 10, 22))).toBe(Date.UTC(2026, 10, 23, 1));
    expect(ambientCloseMs(Date.UTC(2026, 10, 22, 23, 59, 59, 999))).toBe(Date.UTC(2026, 10, 23, 1));
  });

  test("is told from other UUIDs by its midnight", () => {
    expect(looksAmbient("00000000-0000-8000-8000-000000000000")).toBe(true);
    expect(looksAmbient("00000000-0001-8000-8000-000000000000")).toBe(false);
    expect(looksAmbient("00000000-0000-4000-8000-000000000000")).toBe(false);
    expect(looksAmbient("00000000-0000-8000-c000-000000000000")).toBe(false);
    expect(looksAmbient("")).toBe(false);
  });
});

test("the first id of a time is between those that were made before and after", () => {
  fc.assert(
    fc.property(key, time, time, (secret, made, ms) => {
      const id = mintSessionId(secret, made, new Uint8Array(5));
      expect(id < firstIdAt(ms)).toBe(made < ms);
    }),
  );
});
