import { describe, expect, it } from "vitest";
import { covers, relayable, tellsOfRoots } from "../../src/session/capabilities.ts";

const TASKS = { "io.modelcontextprotocol/tasks": {} };

describe("what a client's capabilities are to an upstream", () => {
  it("is what the gateway relays, and what the client's era can say", () => {
    const said = {
      roots: { listChanged: true },
      sampling: { tools: {} },
      elicitation: {},
      experimental: { x: {} },
      extensions: { ...TASKS, "io.modelcontextprotocol/ui": {} },
    };
    expect(relayable(said, "2025")).toEqual({
      roots: { listChanged: true },
      sampling: { tools: {} },
      elicitation: {},
    });
    expect(relayable(said, "2026")).toEqual({
      roots: {},
      sampling: { tools: {} },
      elicitation: {},
      extensions: TASKS,
    });
    expect([relayable(said, "2025"), relayable(said, "2026")].map(tellsOfRoots)).toEqual([
      true,
      false,
    ]);
  });
});

describe("capabilities cover", () => {
  const ask = (mode?: string) => ({
    method: "elicitation/create",
    params: mode === undefined ? {} : { mode },
  });
  const sample = (params: Record<string, object>) => ({ method: "sampling/createMessage", params });

  it("the modes of elicitation that were declared: an empty object is the form", () => {
    expect(covers({ elicitation: {} }, ask())).toBe(true);
    expect(covers({ elicitation: {} }, ask("url"))).toBe(false);
    expect(covers({ elicitation: { url: {} } }, ask("url"))).toBe(true);
    expect(covers({ elicitation: { url: {} } }, ask("form"))).toBe(false);
    expect(covers({ elicitation: { form: {} } }, ask("form"))).toBe(true);
    expect(covers({}, ask())).toBe(false);
  });

  it("sampling with tools, or a choice of them, only where tools were declared", () => {
    expect(covers({ sampling: {} }, sample({}))).toBe(true);
    expect(covers({ sampling: {} }, sample({ tools: [] }))).toBe(false);
    expect(covers({ sampling: {} }, sample({ toolChoice: {} }))).toBe(false);
    expect(covers({ sampling: { tools: {} } }, sample({ tools: [], toolChoice: {} }))).toBe(true);
    expect(covers({}, sample({}))).toBe(false);
  });

  it("roots where they were declared, and nothing that nobody knows", () => {
    expect(covers({ roots: {} }, { method: "roots/list", params: undefined })).toBe(true);
    expect(covers({}, { method: "roots/list", params: undefined })).toBe(false);
    expect(covers({ roots: {} }, { method: "roots/delete", params: undefined })).toBe(false);
  });
});
