import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SSE_HEADERS, sseComment, sseEvent, ssePlace } from "../../src/mcp/sse.ts";

type Received = { id: string; type: string; data: string; retry: number | null };

/** The standard's own algorithm for reading a stream, of which a dispatch needs data. */
function receive(stream: string): Received[] {
  const events: Received[] = [];
  let [id, type, data, retry]: [string, string, string[], number | null] = ["", "", [], null];
  for (const line of stream.split(/\r\n|\r|\n/)) {
    if (line === "") {
      if (data.length > 0)
        events.push({ id, type: type === "" ? "message" : type, data: data.join("\n"), retry });
      [type, data] = ["", []];
      continue;
    }
    const colon = line.indexOf(":");
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "id" && !value.includes("\0")) id = value;
    else if (field === "event") type = value;
    else if (field === "data") data.push(value);
    else if (field === "retry" && /^\d+$/.test(value)) retry = Number(value);
  }
  return events;
}

describe("an event", () => {
  it("has its fields on lines of their own and ends with a blank line", () => {
    expect(sseEvent({ id: "7", event: "message", data: '{"a":1}', retry: 1500 })).toBe(
      'event: message\nid: 7\nretry: 1500\ndata: {"a":1}\n\n',
    );
    expect(sseEvent({ data: "x" })).toBe("data: x\n\n");
  });

  it("with empty data still carries its id", () => {
    expect(sseEvent({ id: "s-1", data: "" })).toBe("id: s-1\ndata: \n\n");
  });

  it("has a data line for each line of data, whatever ends them", () => {
    expect(sseEvent({ data: "a\nb\rc\r\nd\n" })).toBe(
      "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n",
    );
  });

  it("arrives as it was sent, whatever is in it", () => {
    const text = fc.oneof(
      fc.string(),
      fc.string({ unit: fc.constantFrom("\n", "\r", " ", ":", "a") }),
    );
    const name = fc.string().filter((value) => !/[\r\n\0]/.test(value));
    fc.assert(
      fc.property(
        fc.array(fc.record({ id: name, event: name, data: text, retry: fc.nat() })),
        (events) => {
          const expected = events.map(({ id, event, data, retry }) => ({
            id,
            type: event === "" ? "message" : event,
            data: data.replace(/\r\n|\r/g, "\n"),
            retry,
          }));
          expect(receive(events.map(sseEvent).join(""))).toEqual(expected);
        },
      ),
    );
  });

  it.each(["a\nb", "a\rb", "a\0b", "\n"])("refuses %j as its id and as its type", (value) => {
    expect(() => sseEvent({ id: value, data: "" })).toThrow(/event's id/);
    expect(() => sseEvent({ event: value, data: "" })).toThrow(/event's event/);
  });

  it.each([-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 1e21])(
    "refuses to retry in %d",
    (retry) => {
      expect(() => sseEvent({ data: "", retry })).toThrow(TypeError);
    },
  );
});

describe("a comment and a place", () => {
  it("are no events, whatever stands around them", () => {
    const word = fc.string().filter((value) => !/[\r\n\0]/.test(value));
    fc.assert(
      fc.property(fc.array(fc.tuple(word, fc.nat(), fc.string())), (all) => {
        const stream = all
          .map(
            ([text, retry, data]) => sseComment(text) + ssePlace(text, retry) + sseEvent({ data }),
          )
          .join("");
        // The standard keeps the place: later events without an id of their own have it.
        expect(receive(stream)).toEqual(
          all.map(([id, retry, data]) => ({
            id,
            type: "message",
            data: data.replace(/\r\n|\r/g, "\n"),
            retry,
          })),
        );
      }),
    );
  });

  it("are written byte for byte", () => {
    expect(sseComment("keep-alive")).toBe(": keep-alive\n\n");
    expect(ssePlace("3-0", 1000)).toBe("id: 3-0\nretry: 1000\n\n");
  });

  it.each(["a\nb", "a\rb", "a\0b"])("refuse %j", (value) => {
    expect(() => sseComment(value)).toThrow(/event's comment/);
    expect(() => ssePlace(value, 1)).toThrow(/event's id/);
  });
});

describe("the headers of a stream", () => {
  it("name its type and keep proxies from buffering it", () => {
    const headers = new Headers(SSE_HEADERS);
    expect(headers.get("content-type")).toBe("text/event-stream");
    expect(headers.get("x-accel-buffering")).toBe("no");
    expect(headers.get("cache-control")).toBe("no-store, no-transform");
  });
});
