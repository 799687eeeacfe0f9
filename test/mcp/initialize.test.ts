import { InitializeResultSchema } from "@modelcontextprotocol/sdk/types.js";
import { describe, expect, it } from "vitest";
import { initializeParamsSchema, initializeResult } from "../../src/mcp/initialize.ts";
import { VERSIONS_2025 } from "../../src/mcp/versions.ts";
import { VERSION } from "../../src/version.ts";

const params = {
  protocolVersion: "2025-11-25",
  capabilities: { roots: { listChanged: true } },
  clientInfo: { name: "client", version: "1.0.0" },
};

describe("initialize params", () => {
  it("keep what the gateway does not know", () => {
    const more = {
      ...params,
      _meta: { progressToken: 1 },
      capabilities: { tasks: { list: {} }, experimental: { x: {} } },
      clientInfo: { ...params.clientInfo, title: "Client", icons: [{ src: "data:," }] },
    };
    expect(initializeParamsSchema.parse(more)).toEqual(more);
  });

  it.each([
    ["protocolVersion", { ...params, protocolVersion: undefined }],
    ["protocolVersion", { ...params, protocolVersion: 20251125 }],
    ["capabilities", { ...params, capabilities: undefined }],
    ["capabilities", { ...params, capabilities: [] }],
    ["clientInfo", { ...params, clientInfo: undefined }],
    ["clientInfo.name", { ...params, clientInfo: { version: "1" } }],
    ["clientInfo.version", { ...params, clientInfo: { name: "c" } }],
    ["clientInfo.title", { ...params, clientInfo: { ...params.clientInfo, title: 1 } }],
  ])("without a fitting %s are refused, naming it", (field, value) => {
    const { error } = initializeParamsSchema.safeParse(value);
    expect(error?.issues.map(({ path }) => path.join("."))).toEqual([field]);
  });
});

describe("the answer to initialize", () => {
  it.each(VERSIONS_2025)("is, for %s, an InitializeResult with tools", (version) => {
    const result = initializeResult({ version, capabilities: { tools: {} } });
    expect(result).toStrictEqual({
      protocolVersion: version,
      capabilities: { tools: {} },
      serverInfo: { name: "atlas-gate", title: "Atlas Gate", version: VERSION },
    });
    expect(InitializeResultSchema.parse(result)).toEqual(result);
  });

  it("carries instructions when there are some", () => {
    const result = initializeResult({
      version: "2025-06-18",
      capabilities: {},
      instructions: "Begin with begin_session.",
    });
    expect(result.instructions).toBe("Begin with begin_session.");
  });
});
