import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readSse, SseError, type SseMessage } from "../../src/upstream/wire-sse.ts";

const MAX = 1_000;

function streamOf(bytes: Uint8Array, cuts: readonly number[] = []): ReadableStream<Uint8Array> {
  const edges = [
    0,
    ...[...cuts].map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b),
    bytes.length,
  ];
  return new ReadableStream({
    start(controller) {
      for (let i = 1; i < edges.length; i++)
        controller.enqueue(bytes.slice(edges[i - 1], edges[i]));
      controller.close();
    },
  });
}

async function all(text: string | Uint8Array, cuts?: number[], max = MAX): Promise<SseMessage[]> {
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  const found: SseMessage[] = [];
  for await (const message of readSse(streamOf(bytes, cuts), max)) found.push(message);
  return found;
}

const event = (fields: Partial<SseMessage>): SseMessage => ({
  id: null,
  event: null,
  data: null,
  retry: null,
  ...fields,
});

describe("readSse", () => {
  it("reads every field, and events that have only some", async () => {
    expect(
      await all(
        "id: 1\nevent: message\ndata: a\ndata: b\nretry: 20\n\nid: 2\n\nretry: 5\n\ndata\n\ndata: \n\n",
      ),
    ).toEqual([
      event({ id: "1", event: "message", data: "a\nb", retry: 20 }),
      event({ id: "2" }),
      event({ retry: 5 }),
      event({ data: "" }),
      event({ data: "" }),
    ]);
  });

  it("removes one space after the colon and no more, and ignores what it does not know", async () => {
    expect(
      await all(": comment\ndata:  a:b\nunknown: x\nretry: 1s\nid: a\0b\nDATA: no\n\n"),
    ).toEqual([event({ data: " a:b" })]);
    expect(await all(":\n\n: x\n\nunknown\n\n")).toEqual([]);
  });

  it("drops what the end cuts off, but a retry holds", async () => {
    expect(await all("data: a\n\ndata: b\n")).toEqual([event({ data: "a" })]);
    expect(await all("data: a\n\nretry: 7\n")).toEqual([event({ data: "a" }), event({ retry: 7 })]);
  });

  it("passes over one byte order mark at the very start", async () => {
    expect(await all("\ufeffdata: \ufeffa\n\n\ufeffdata: b\n\n")).toEqual([
      event({ data: "\ufeffa" }),
    ]);
  });

  it("reads the same whatever the line ends and wherever the chunks are cut", async () => {
    const line = fc.oneof(
      fc.constantFrom("", "id: ü1", "event: message", ": ping", "retry: 30", "data", "data:"),
      fc.string({ unit: "grapheme" }).map((text) => `data: ${text.replace(/[\r\n]/g, "")}😀`),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(line),
        fc.constantFrom("\n", "\r", "\r\n"),
        fc.array(fc.nat()),
        async (lines, end, cuts) => {
          const plain = await all(lines.map((text) => `${text}\n`).join(""));
          expect(await all(lines.map((text) => `${text}${end}`).join(""), cuts)).toEqual(plain);
        },
      ),
    );
    const oneByOne = "id: 1\r\ndata: 世界😀\r\n\r\ndata: x\r\rdata: y\n\n";
    const cuts = Array.from({ length: 60 }, (_, index) => index);
    expect(await all(oneByOne, cuts)).toEqual([
      event({ id: "1", data: "世界😀" }),
      event({ data: "x" }),
      event({ data: "y" }),
    ]);
  });

  it("tells an event as soon as its blank line is there", async () => {
    for (const blank of ["\n\n", "\r\r", "\r\n\r\n"]) {
      const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
      const writer = writable.getWriter();
      const events = readSse(readable, MAX);
      const first = events.next();
      await writer.write(new TextEncoder().encode(`data: now${blank}`));
      expect((await first).value).toEqual(event({ data: "now" }));
      await events.return();
    }
  });

  it("refuses an event that is too large, in one line or in many, before its end", async () => {
    const endless = (piece: string) => {
      let isCancelled = false;
      const stream = new ReadableStream<Uint8Array>({
        pull: (controller) => controller.enqueue(new TextEncoder().encode(piece)),
        cancel: () => {
          isCancelled = true;
        },
      });
      return { stream, isCancelled: () => isCancelled };
    };
    for (const piece of ["data: x\n", "x", "data:\n", "id: 1\n", "data: 12345\ndata"]) {
      const { stream, isCancelled } = endless(piece);
      const read = readSse(stream, MAX).next();
      await expect(read, piece).rejects.toMatchObject({ name: "SseError", reason: "too_large" });
      expect(isCancelled(), piece).toBe(true);
    }
    await expect(all(`data: ${"x".repeat(MAX)}\n\n`)).rejects.toBeInstanceOf(SseError);
    expect(await all(`data: ${"x".repeat(MAX - 6)}\n\n`.repeat(5))).toHaveLength(5);
  });

  it("counts what an event has and what it is about to have as one", async () => {
    const half = `data: ${"x".repeat(600)}`;
    const stream = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(new TextEncoder().encode(`${half}\n${half}`)),
    });
    await expect(readSse(stream, MAX).next()).rejects.toMatchObject({ reason: "too_large" });
  });

  it("does not count comments: a server may ping for hours", async () => {
    expect(await all(`${": ping\n".repeat(MAX)}data: x\n\n`, [1, 50, 900])).toEqual([
      event({ data: "x" }),
    ]);
  });

  it("refuses data that is not UTF-8", async () => {
    const bytes = new Uint8Array([...new TextEncoder().encode("data: "), 0xff, 0x0a, 0x0a]);
    await expect(all(bytes)).rejects.toMatchObject({ reason: "not_utf8" });
  });

  it("ends and cancels the stream when the signal aborts, also while nothing comes", async () => {
    const aborter = new AbortController();
    let isCancelled = false;
    const silent = new ReadableStream<Uint8Array>({
      cancel: () => {
        isCancelled = true;
      },
    });
    const read = readSse(silent, MAX, aborter.signal).next();
    aborter.abort();
    expect(await read).toEqual({ done: true, value: undefined });
    expect(isCancelled).toBe(true);
  });

  it("cancels the stream when its reader stops, and passes on what breaks it", async () => {
    let isCancelled = false;
    const stream = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(new TextEncoder().encode("data: a\n\ndata: b\n\n")),
      cancel: () => {
        isCancelled = true;
      },
    });
    for await (const _ of readSse(stream, MAX)) break;
    expect(isCancelled).toBe(true);
    const broken = new ReadableStream<Uint8Array>({ start: (c) => c.error(new Error("reset")) });
    await expect(readSse(broken, MAX).next()).rejects.toThrow("reset");
  });
});
