import { describe, expect, it } from "vitest";
import type { JsonObject } from "../../src/mcp/ijson.ts";
import { relayResult } from "../../src/mcp/relay-result.ts";

function relayed(result: JsonObject, era: "2025" | "2026", isCacheable = false): unknown {
  const text = JSON.stringify(result);
  return JSON.parse(relayResult({ result, text, isIJson: true }, era, isCacheable).withMeta([]));
}

describe("a result that is cacheable", () => {
  it("is so for its caller alone, and as long as the upstream said", () => {
    const result = { resultType: "complete", contents: [], ttlMs: 5, cacheScope: "public" };
    expect(relayed(result, "2026", true)).toEqual({ ...result, cacheScope: "private" });
  });

  it.each([undefined, -1, 0.5, "5", null])("has a ttlMs of 0 for %j", (ttlMs) => {
    const result = { contents: [], ...(ttlMs === undefined ? {} : { ttlMs }) };
    expect(relayed(result, "2026", true)).toMatchObject({ ttlMs: 0, cacheScope: "private" });
  });
});

describe("a result of either era", () => {
  it("has its type for clients of 2026-07-28, and none for others", () => {
    expect(relayed({ content: [] }, "2026")).toEqual({ resultType: "complete", content: [] });
    expect(relayed({ resultType: "complete", content: [] }, "2025")).toEqual({ content: [] });
  });

  it("names no server but the gateway, and keeps the upstream's other _meta", () => {
    const _meta = {
      "io.modelcontextprotocol/serverInfo": { name: "upstream", version: "1" },
      "dev.atlas-gate/receipt": { seq: 1 },
      "acme/x": 1,
    };
    expect(relayed({ content: [], _meta }, "2026")).toMatchObject({ _meta: { "acme/x": 1 } });
    expect(JSON.stringify(relayed({ content: [], _meta }, "2026"))).not.toMatch(/upstream|receipt/);
  });
});
