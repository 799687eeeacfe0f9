import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { acceptsEventStream, acceptsMcp, isJsonContentType } from "../../src/mcp/negotiate.ts";

describe("Accept of a POST", () => {
  it.each([
    [null, "json"],
    ["application/json, text/event-stream", "json"],
    ["text/event-stream, application/json", "json"],
    ["text/event-stream,application/json", "json"],
    ["*/*", "json"],
    ["application/*, text/*", "json"],
    ["APPLICATION/JSON, Text/Event-Stream", "json"],
    ["application/json ; q=0.5 , text/event-stream ;q=0.5", "json"],
    ["application/json;q=0.5, text/event-stream", "sse"],
    ["application/json;Q=0.899, text/event-stream;q=0.9", "sse"],
    ["application/json;q=0.001, text/event-stream;q=0.001", "json"],
    ["*/*;q=0.1, text/event-stream", "sse"],
    ["text/*;q=0.9, */*;q=0.8", "sse"],
    ["text/event-stream;q=0.2, text/*, application/json;q=0.5", "json"],
    ["application/json;charset=utf-8, text/event-stream", "json"],
    ['application/json;p="a,b;q=0", text/event-stream', "json"],
    ['application/json;p="a\\",b", text/event-stream', "json"],
    [", application/json,, text/event-stream,", "json"],
    ["text/html, image/gif, *; q=.2, */*; q=.2", "json"],
    ["application/json;q=1.000, text/event-stream;q=1.", "json"],
    ["application/json, application/json;q=0.1, text/event-stream;q=0.5", "json"],
  ])("%s is enough, and prefers %s", (accept, prefer) => {
    expect(acceptsMcp(accept)).toEqual({ ok: true, prefer });
  });

  it.each([
    "",
    " ",
    "application/json",
    "text/event-stream",
    "text/html, application/xml",
    "application/*",
    "text/*",
    "application/json, text/event-stream;q=0",
    "application/json;q=0.0, text/event-stream",
    "*/*, application/json;q=0",
    "*/*;q=0",
    "*/*, text/*;q=0",
    "application/json;q=high, text/event-stream",
    "application/json;q=1.5, text/event-stream",
    "application/json;q=-1, text/event-stream",
    "application/json;q=, text/event-stream",
    "application/jsonx, text/event-stream",
    "application/json-seq, text/event-stream",
    "*/json, text/event-stream",
    'text/plain;p="application/json, text/event-stream"',
    'application/json;p="open, text/event-stream',
    "application/json text/event-stream",
  ])("%j is not, and the refusal names both types", (accept) => {
    expect(acceptsMcp(accept)).toEqual({
      ok: false,
      message: expect.stringMatching(/application\/json.*text\/event-stream/),
    });
  });

  it("means the same in any order, case and white space", () => {
    const weight = fc.constantFrom("", ";q=0", ";q=0.3", ";q=0.7", ";q=1");
    const range = fc.tuple(
      fc.constantFrom("application/json", "application/*", "text/event-stream", "text/*", "*/*"),
      weight,
    );
    const ranges = fc.uniqueArray(range, { selector: ([type]) => type });
    const space = fc.constantFrom("", " ", "\t", "  ");
    fc.assert(
      fc.property(ranges, space, space, fc.boolean(), (list, before, after, isUpper) => {
        const plain = list.map(([type, q]) => type + q).join(", ");
        const other = list
          .map(([type, q]) => type + q.replace(";", `${before};${after}`))
          .reverse()
          .join(`${after},${before}`);
        const cased = isUpper ? other.toUpperCase() : other;
        expect(acceptsMcp(cased)).toEqual(acceptsMcp(plain));
      }),
    );
  });

  it("is read in linear time", () => {
    const hostile = [",".repeat(200_000), '"\\'.repeat(100_000), "a;".repeat(100_000)];
    const started = performance.now();
    for (const accept of hostile) expect(acceptsMcp(accept).ok).toBe(false);
    expect(performance.now() - started).toBeLessThan(2_000);
  });
});

describe("Accept of a GET", () => {
  it.each([
    null,
    "text/event-stream",
    "*/*",
    "text/*;q=0.1",
    "TEXT/EVENT-STREAM;x=1",
    "a/b, text/*",
  ])("%j takes an event stream", (accept) => expect(acceptsEventStream(accept)).toBe(true));

  it.each(["", "application/json", "text/event-stream;q=0", "text/*;q=0, */*", "text/event"])(
    "%j does not",
    (accept) => expect(acceptsEventStream(accept)).toBe(false),
  );
});

describe("Content-Type", () => {
  it.each([
    "application/json",
    "Application/JSON",
    "application/json; charset=utf-8",
    "application/json;charset=UTF-8",
    'application/json ; Charset="utf-8"',
    'application/json; charset="utf\\-8"',
    "application/json;",
    "application/json; profile=x; charset=utf-8",
    'application/json; profile="a;b"',
  ])("%j is JSON", (type) => expect(isJsonContentType(type)).toBe(true));

  it.each([
    null,
    "",
    "text/plain",
    "text/json",
    "application/jsonp",
    "application/json-rpc",
    "application/problem+json",
    "application/*",
    "application/json; charset=utf-16",
    "application/json; charset=iso-8859-1",
    "application/json; charset=",
    'application/json; charset="utf-8',
    "application/json; charset=utf-8; charset=utf-16",
    "application/json; charset",
    "application/json, application/json",
    "application/json; charset=utf-8, text/plain",
    "application/json; a=b, text/plain",
    "text/plain; application/json",
  ])("%j is not", (type) => expect(isJsonContentType(type)).toBe(false));
});
