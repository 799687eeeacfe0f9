import fc from "fast-check";
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

  it.each<JsonValue>(["2026-07-27", "2025-11-25", "1900-01-01", 20260728, null, ["2026-07-28"]])(
    "is 2025 when its _meta names %j",
    (version) => {
      expect(eraOf(naming(version))).toEqual({ era: "2025" });
    },
  );

  // Only the 2026 era names a revision there: it is for that era to say which ones it knows.
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
  ])("is 2026 when its _meta names %j, which is no date", (version) => {
    expect(eraOf(naming(version))).toEqual({ era: "2026", version });
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

describe("the era of a message and its header", () => {
  const date = fc
    .date({
      min: new Date("2020-01-01T00:00:00Z"),
      max: new Date("2035-12-31T00:00:00Z"),
      noInvalidDate: true,
    })
    .map((day) => day.toISOString().slice(0, 10));
  const header = fc.oneof(fc.constant(null), date, fc.string());
  const named = fc.oneof(date, fc.string());

  it("of the 2026 era has the version that the body names", () => {
    fc.assert(
      fc.property(named, header, (version, said) => {
        const era = eraOf(naming(version), said);
        if (era.era === "2026") expect(era.version).toBe(version);
        // A header takes nothing away from what the body says.
        if (eraOf(naming(version)).era === "2026") expect(era.era).toBe("2026");
      }),
    );
  });

  it("is 2026 if either names a date of it: two that differ are a mismatch of that era", () => {
    fc.assert(
      fc.property(date, fc.option(date), (version, said) => {
        const is2026 = version >= "2026-07-28" || (said !== null && said >= "2026-07-28");
        expect(eraOf(naming(version), said).era).toBe(is2026 ? "2026" : "2025");
      }),
    );
  });

  it("is the header's where the body names none", () => {
    fc.assert(
      fc.property(date, (said) => {
        const era = eraOf({ jsonrpc: "2.0", id: 1, method: "tools/list" }, said);
        expect(era).toEqual(
          said >= "2026-07-28" ? { era: "2026", version: null } : { era: "2025" },
        );
      }),
    );
  });

  it("is found in any JSON at all, and 2025 where nothing names a later one", () => {
    fc.assert(
      fc.property(fc.jsonValue({ depthSize: "medium" }), (value) => {
        const message: JsonValue = JSON.parse(JSON.stringify(value));
        expect(eraOf(message)).toEqual({ era: "2025" });
        expect(eraOf(message, "2025-11-25")).toEqual({ era: "2025" });
        expect(eraOf(message, "2026-07-28")).toEqual({ era: "2026", version: null });
      }),
    );
  });
});
