import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  cannotBeAsked,
  errorCodeOf,
  errorStatus,
  errorTo2026,
  forEra,
  labelled,
  messageOf,
} from "../../src/session/relay-words.ts";
import type { WireFailure } from "../../src/upstream/types.ts";

const FAILURES = {
  cancelled: "CANCELLED",
  timeout: "UPSTREAM_TIMEOUT",
  unauthorized: "UPSTREAM_UNAUTHORIZED",
  unreachable: "UPSTREAM_UNAVAILABLE",
  refused: "UPSTREAM_UNAVAILABLE",
  session_lost: "UPSTREAM_UNAVAILABLE",
  protocol: "UPSTREAM_ERROR",
  too_large: "UPSTREAM_ERROR",
} as const;

const failure = (reason: keyof typeof FAILURES, ran: "no" | "maybe" = "maybe"): WireFailure => ({
  reason,
  ran,
  detail: "the upstream's own words",
  httpStatus: 500,
});

describe("a failure of an upstream", () => {
  it.each(Object.keys(FAILURES) as (keyof typeof FAILURES)[])(
    "%s has its code and words",
    (reason) => {
      expect(errorCodeOf(failure(reason))).toBe(FAILURES[reason]);
      for (const ran of ["no", "maybe"] as const) {
        const message = messageOf(failure(reason, ran), "github", "req-1");
        expect(message).toContain("github");
        expect(message).toContain("req-1");
        expect(message).not.toContain("own words");
        expect(message).toContain(ran === "no" ? "was not carried out" : "may have been");
      }
    },
  );
});

describe("a question", () => {
  const url = { mode: "url", url: "https://a.example/", message: "m", elicitationId: "e" };

  it("at a URL has an id in the 2025 era alone", () => {
    const question = { method: "elicitation/create", params: url };
    expect(forEra(question, "2025").params).toEqual(url);
    const { elicitationId: _, ...without } = url;
    expect(forEra(question, "2026").params).toEqual(without);
    const made = forEra({ ...question, params: without }, "2025").params?.elicitationId;
    expect(made).toMatch(/^[0-9a-f-]{36}$/);
    expect(forEra({ ...question, params: without }, "2025").params?.elicitationId).not.toBe(made);
  });

  it.each([
    { method: "elicitation/create", params: { mode: "form", elicitationId: "kept" } },
    { method: "sampling/createMessage", params: { elicitationId: "kept" } },
    { method: "roots/list", params: undefined },
  ])("of another kind is the same in both eras: $method", (question) => {
    expect(forEra(question, "2025")).toBe(question);
    expect(forEra(question, "2026")).toBe(question);
  });

  it("says who asks, whatever the upstream says of that", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (given) => {
        const meta = { ...JSON.parse(JSON.stringify(given)), "dev.atlas-gate/upstream": "forged" };
        const { _meta, ...rest } = labelled({ a: 1, _meta: meta }, "github");
        expect(rest).toEqual({ a: 1 });
        expect(_meta).toEqual({ ...meta, "dev.atlas-gate/upstream": "github" });
      }),
    );
    expect(labelled(undefined, "github")).toEqual({
      _meta: { "dev.atlas-gate/upstream": "github" },
    });
    expect(labelled({ _meta: { "dev.atlas-gate/receipt": 1, x: 2 } }, "g")._meta).toEqual({
      x: 2,
      "dev.atlas-gate/upstream": "g",
    });
  });
});

describe("an error of the 2025 era in the words of 2026", () => {
  const elicitation = { mode: "url", url: "https://a.example/", message: "m", elicitationId: "e" };

  it("is invalid parameters with the URI, for a resource that is not there", () => {
    const error = { code: -32002, message: "gone", data: { x: 1 } };
    expect(errorTo2026(error, { uri: "a://b" })).toEqual({
      error: { code: -32602, message: "gone", data: { x: 1, uri: "a://b" } },
    });
  });

  it("is questions, for URLs that the user must see first", () => {
    const found = errorTo2026(
      { code: -32042, message: "m", data: { elicitations: [elicitation, "no object"] } },
      {},
    );
    expect("questions" in found ? [...found.questions] : null).toEqual([
      [
        "elicitation_1",
        {
          method: "elicitation/create",
          params: { mode: "url", url: "https://a.example/", message: "m" },
        },
      ],
    ]);
  });

  it.each([
    { code: -32042, message: "m" },
    { code: -32042, message: "m", data: { elicitations: [] } },
    { code: -32042, message: "m", data: { elicitations: "none" } },
    { code: -32020, message: "m", data: { x: 1 } },
    { code: -32022, message: "m" },
    { code: -32050, message: "m", data: [1] },
    { code: -32099, message: "m" },
  ])("never has a code that the revision keeps to itself: %j", (error) => {
    const { code, message, data } = error;
    const beside = Array.isArray(data) ? data : { ...data, upstream_code: code };
    expect(errorTo2026(error, {})).toEqual({ error: { code: -32603, message, data: beside } });
  });

  it("names the capability that a client lacks for its questions, and no other reason", () => {
    expect(cannotBeAsked("github", false)).toMatchObject({
      code: -32021,
      data: { requiredCapabilities: { elicitation: { url: {} } } },
    });
    expect(cannotBeAsked("github", true)).toMatchObject({ code: -32603 });
  });

  it.each([
    { code: -32021, message: "m", data: { requiredCapabilities: { sampling: {} } } },
    { code: -32000, message: "m" },
    { code: -32019, message: "m" },
    { code: -32100, message: "m" },
    { code: 4050, message: "m" },
    { code: -32603, message: "m", data: [1] },
  ])("is itself otherwise: %j", (error) => {
    expect(errorTo2026(error, {})).toEqual({ error });
  });

  it.each([
    [-32601, 404],
    [-32602, 400],
    [-32020, 400],
    [-32022, 400],
    [-32099, 400],
    [-32019, 200],
    [-32603, 200],
    [1, 200],
  ])("%i has the HTTP status %i", (code, status) => {
    expect(errorStatus(code)).toBe(status);
  });
});
