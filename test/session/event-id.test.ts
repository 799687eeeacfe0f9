import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { eventId, parseEventId, partsOf } from "../../src/session/streams.ts";

const place = fc.record({ stream: fc.nat(), n: fc.nat() });

describe("the id of an event", () => {
  it("names its place, and comes back as it went", () => {
    fc.assert(
      fc.property(place, ({ stream, n }) => {
        expect(parseEventId(eventId(stream, n))).toEqual({ stream, n });
      }),
    );
  });

  it("is its own: two places have two ids", () => {
    fc.assert(
      fc.property(place, place, (a, b) => {
        const isSame = a.stream === b.stream && a.n === b.n;
        expect(eventId(a.stream, a.n) === eventId(b.stream, b.n)).toBe(isSame);
      }),
    );
  });

  it("of no other form is read, and none is read as a number that JavaScript cannot hold", () => {
    const text = fc.oneof(
      fc.string(),
      fc.string({ unit: fc.constantFrom("0", "9", "-", " ", "x", "\n", "١") }),
    );
    fc.assert(
      fc.property(text, (id) => {
        const parsed = parseEventId(id);
        expect(parsed !== null).toBe(/^[0-9]{1,15}-[0-9]{1,15}$/.test(id) && !id.endsWith("\n"));
        if (parsed === null) return;
        expect(Number.isSafeInteger(parsed.stream) && Number.isSafeInteger(parsed.n)).toBe(true);
      }),
    );
  });
});

describe("the parts of an event", () => {
  it("join to what it was, are small enough, and each is text by itself", () => {
    const unit = fc.constantFrom("a", "é", "漢", "🦉", "\n");
    fc.assert(
      fc.property(fc.array(fc.tuple(unit, fc.integer({ min: 0, max: 250_000 }))), (runs) => {
        const text = runs.map(([each, times]) => each.repeat(times)).join("");
        const parts = partsOf(text);
        expect(parts.join("") === text).toBe(true);
        expect(parts.length).toBeGreaterThan(0);
        for (const part of parts) {
          expect(part.length).toBeLessThanOrEqual(300_000);
          expect(part.isWellFormed()).toBe(true);
        }
      }),
      { numRuns: 30 },
    );
  });
});
