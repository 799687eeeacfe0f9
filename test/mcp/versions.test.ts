import { describe, expect, it } from "vitest";
import type { JsonValue } from "../../src/mcp/ijson.ts";
import {
  eraOf,
  isSupported2025,
  LATEST_2025,
  negotiateVersion,
  supportsBatch,
  VERSIONS_2025,
  VERSIONS_2026,
} from "../../src/mcp/versions.ts";

const naming = (version: JsonValue): JsonValue => ({
  jsonrpc: "2.0",
  id: 1,
  method: "tools/list",
  params: { _meta: { "io.modelcontextprotocol/protocolVersion": version } },
});

describe("the version that initialize settles on", () => {
  it.each(["2025-03-26", "2025-06-18", "2025-11-25"])("is %s when that is asked for", (version) => {
    expect(negotiateVersion(version)).toBe(version);
    expect(isSupported2025(version)).toBe(true);
  });

  it.each(["2024-11-05", "2026-07-28", "2099-01-01", "", "latest", "2025-11-25 "])(
    "is the latest of the era when %j is asked for",
    (version) => {
      expect(negotiateVersion(version)).toBe("2025-11-25");
      expect(isSupported2025(version)).toBe(false);
    },
  );

  it("is never one of the 2026 era", () => {
    expect(VERSIONS_2025.at(-1)).toBe(LATEST_2025);
    expect(VERSIONS_2026.map(negotiateVersion)).toEqual([LATEST_2025]);
  });

  it("allows batches in 2025-03-26 alone", () => {
    expect(VERSIONS_2025.filter(supportsBatch)).toEqual(["2025-03-26"]);
  });
});

describe("the era of a message", () => {
  it.each(["2026-07-28", "2026-07-29", "2026-12-01", "2027-01-01", "9999-12-31"])(
    "is 2026 when its _meta names %s, supported or not",
    (version) => expect(eraOf(naming(version))).toEqual({ era: "2026", version }),
  );

  it.each([
    "2026-7-28",
    "2026-13-01",
    "2026-00-10",
    "2027-02-29",
    "2026-09-31",
    "20260728",
    "2026-07-28T00:00:00Z",
    " 2026-07-28",
    "2026-07-28\n",
    "+02026-07-28",
    "DRAFT-2026-v1",
    "zzzz-zz-zz",
    "",
  ])("is 2026 when its _meta names %j, which is no revision, to be told so", (version) => {
    expect(eraOf(naming(version))).toEqual({ era: "2026", version });
  });

  it.each<JsonValue>(["2026-07-27", "2025-11-25", "1900-01-01", 20260728, null, ["2026-07-28"]])(
    "is 2025 when its _meta names %j",
    (version) => {
      expect(eraOf(naming(version))).toEqual({ era: "2025" });
    },
  );

  it("is 2026 when the header says so, so that a body which says otherwise is a mismatch", () => {
    const version = "2025-11-25";
    expect(eraOf(naming(version), "2026-07-28")).toEqual({ era: "2026", version });
    expect(eraOf(naming("2026-07-28"), version)).toEqual({ era: "2026", version: "2026-07-28" });
    expect(eraOf(naming(version), version)).toEqual({ era: "2025" });
  });

  it("is 2026 on a leap day", () => {
    expect(eraOf(naming("2028-02-29")).era).toBe("2026");
  });

  it.each<JsonValue>([
    null,
    "2026-07-28",
    [naming("2026-07-28")],
    {},
    { params: null },
    { params: [] },
    { params: {} },
    { params: { _meta: "2026-07-28" } },
    { params: { _meta: { protocolVersion: "2026-07-28" } } },
    { params: { "io.modelcontextprotocol/protocolVersion": "2026-07-28" } },
    { _meta: { "io.modelcontextprotocol/protocolVersion": "2026-07-28" } },
    { method: "initialize", params: { protocolVersion: "2026-07-28" } },
  ])("is 2025 when params._meta names none: %j", (message) => {
    expect(eraOf(message)).toEqual({ era: "2025" });
  });
});
