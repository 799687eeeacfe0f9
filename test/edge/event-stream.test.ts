import { describe, expect, it } from "vitest";
import { openEventStream } from "../../src/edge/event-stream.ts";

function opened(first: string | null = null) {
  const seen = { ends: 0 };
  const stream = openEventStream({
    first,
    isCall: false,
    isStopped: null,
    recheck: async () => true,
    onEnd: () => {
      seen.ends += 1;
    },
  });
  return { ...stream, seen };
}

describe("a client's event stream", () => {
  it("gives what was written, in order, and then ends", async () => {
    const { write, end, response, seen } = opened("first\n");
    write("second\n");
    end();
    write("too late\n");
    expect(await response.text()).toBe("first\nsecond\n");
    expect(seen.ends).toBe(1);
  });

  it("tells that a message was taken only when the client has read it", async () => {
    const { write, end, response } = opened();
    const taken: number[] = [];
    for (const n of [1, 2]) write(`${n}`, () => taken.push(n));
    const reader = response.body?.getReader();
    expect(taken).toEqual([]);
    await reader?.read();
    expect(taken).toEqual([1]);
    await reader?.read();
    expect(taken).toEqual([1, 2]);
    end();
    expect((await reader?.read())?.done).toBe(true);
  });

  it("is over, once, when the client leaves", async () => {
    const { response, seen, end } = opened("x");
    const reader = response.body?.getReader();
    await reader?.read();
    await reader?.cancel();
    end();
    expect(seen.ends).toBe(1);
  });

  it("ends for a client that is a thousand messages behind, and keeps those", async () => {
    const { write, response, seen } = opened();
    for (let n = 0; n < 2_000; n++) write(".");
    expect(seen.ends).toBe(1);
    expect(await response.text()).toBe(".".repeat(1_001));
  });

  it("is kept however large one message is", async () => {
    const { write, end, response, seen } = opened("first");
    write("x".repeat(20_000_000));
    write("last");
    expect(seen.ends).toBe(0);
    end();
    expect(await response.text()).toHaveLength(20_000_009);
  });
});
