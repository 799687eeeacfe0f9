/**
 * @module
 * The network as a test wants it: what the gateway sends is answered here, and
 * no name leads anywhere.
 */
import { vi } from "vitest";

/** Answers every request of this isolate but look-ups of names; what was sent is on the spy. */
export function answerInstead(answer: typeof fetch) {
  const sent = vi.fn<typeof fetch>(answer);
  vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) =>
    new URL(String(input)).pathname === "/dns-query"
      ? Response.json({ Status: 3 })
      : sent(input, init),
  );
  return sent;
}
