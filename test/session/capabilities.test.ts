import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { covers, declaredTo, relayable, tellsOfRoots } from "../../src/session/capabilities.ts";
import type { UpstreamConfig } from "../../src/upstream/types.ts";
import { upstreamConfig } from "../upstream/entries.ts";

const FULL = { sampling: { tools: {} }, elicitation: { form: {}, url: {} }, roots: {} };

describe("what is kept of a client's capabilities", () => {
  it("is what the gateway can relay, and nothing else", () => {
    const tasks = { "io.modelcontextprotocol/tasks": {} };
    expect(
      relayable({ ...FULL, experimental: { x: {} }, extensions: { ...tasks, other: {} } }, "2026"),
    ).toEqual({ ...FULL, extensions: tasks });
    const none = { sampling: true, elicitation: [], roots: null, extensions: 1 };
    expect(relayable(none, "2025")).toEqual({});
  });

  it("is nothing that the client's era has no way to say", () => {
    const extensions = { "io.modelcontextprotocol/tasks": {} };
    const said = { roots: { listChanged: true }, extensions };
    expect(relayable(said, "2025")).toEqual({ roots: { listChanged: true } });
    expect(relayable(said, "2026")).toEqual({ roots: {}, extensions });
    expect([tellsOfRoots(relayable(said, "2025")), tellsOfRoots({ roots: {} })]).toEqual([
      true,
      false,
    ]);
  });

  it("is nothing where it is too much to keep, and never a foreign member", () => {
    expect(relayable({ sampling: { x: "y".repeat(5_000) } }, "2026")).toEqual({});
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (given) => {
        const names = Object.keys(relayable(JSON.parse(JSON.stringify(given)), "2026"));
        for (const name of names) {
          expect(["sampling", "elicitation", "roots", "extensions"]).toContain(name);
        }
      }),
    );
  });
});

describe("what is declared to an upstream", () => {
  it.each([
    [false, false, { roots: {} }],
    [true, false, { roots: {}, sampling: FULL.sampling }],
    [false, true, { roots: {}, elicitation: FULL.elicitation }],
    [true, true, FULL],
  ])(
    "is what its registration allows (sampling %s, elicitation %s)",
    (sampling, elicitation, declared) => {
      const config: UpstreamConfig = { ...upstreamConfig("a"), sampling, elicitation };
      expect(declaredTo(config, FULL)).toEqual(declared);
      expect(declaredTo(config, {})).toEqual({});
    },
  );
});

describe("a question", () => {
  const elicit = (mode?: string) => ({
    method: "elicitation/create",
    params: mode === undefined ? {} : { mode },
  });

  it.each([
    // An empty object is the form mode.
    [{ elicitation: {} }, elicit(), true],
    [{ elicitation: {} }, elicit("form"), true],
    [{ elicitation: {} }, elicit("url"), false],
    [{ elicitation: { url: {} } }, elicit("url"), true],
    [{ elicitation: { url: {} } }, elicit("form"), false],
    [{ elicitation: { form: {} } }, elicit("url"), false],
    [{ elicitation: { form: {}, url: {} } }, elicit("url"), true],
    [{}, elicit(), false],
    [{ sampling: {} }, { method: "sampling/createMessage", params: {} }, true],
    [{ sampling: {} }, { method: "sampling/createMessage", params: { tools: [] } }, false],
    [
      { sampling: { tools: {} } },
      { method: "sampling/createMessage", params: { tools: [] } },
      true,
    ],
    [{ sampling: {} }, { method: "sampling/createMessage", params: { toolChoice: {} } }, false],
    [{}, { method: "sampling/createMessage", params: {} }, false],
    [{ roots: {} }, { method: "roots/list", params: undefined }, true],
    [{}, { method: "roots/list", params: undefined }, false],
    [FULL, { method: "tools/call", params: {} }, false],
    [FULL, { method: "ping", params: {} }, false],
  ])("is covered or not: %j %j %s", (declared, question, expected) => {
    expect(covers(declared, question)).toBe(expected);
  });
});
