import { readFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  BLOBS,
  DOUBLES,
  dataPointOf,
  MAX_BLOB_BYTES,
  MAX_INDEX_BYTES,
  type RequestPoint,
} from "../../src/ops/analytics.ts";
import { callerText, cutToBytes } from "../../src/ops/caller-text.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const POINT: RequestPoint = {
  tenant: "default",
  route: "/mcp",
  method: "tools/call",
  role: "windsurf",
  era: "2025",
  tool: "read_file",
  errorCode: "NOT_FOUND",
  colo: "ZRH",
  status: 200,
  durationMs: 12,
};
/** What the platform takes: developers.cloudflare.com/analytics/analytics-engine/limits. */
const PLATFORM = { blobs: 20, doubles: 20, indexes: 1, indexBytes: 96, allBlobsBytes: 16 * 1024 };
/** Before it was raised, and still on other accounts' pages. */
const OLDER_ALL_BLOBS_BYTES = 5 * 1024;

const bytes = (text: string) => new TextEncoder().encode(text).length;

test("the document has every place of a data point, in the order in which they are written", async () => {
  const document = await readFile(join(ROOT, "docs", "monitoring", "README.md"), "utf8");
  const rows = [...document.matchAll(/^\| ((?:index|blob|double)\d+) \| `(\w+)` \|/gm)];
  const documented = rows.map(([, place, field]) => [place, field]);
  expect(documented).toEqual([
    ["index1", "tenant"],
    ...BLOBS.map((field, at) => [`blob${at + 1}`, field]),
    ...DOUBLES.map((field, at) => [`double${at + 1}`, field]),
  ]);
  // Each field of a point has a place, and each place the value of its field.
  expect(documented.map(([, field]) => field).sort()).toEqual(Object.keys(POINT).sort());
  const { indexes, blobs, doubles } = dataPointOf(POINT);
  expect([...(indexes ?? []), ...(blobs ?? []), ...(doubles ?? [])]).toEqual(
    documented.map(([, field]) => Reflect.get(POINT, field ?? "")),
  );
});

test("wrangler.toml says how a dataset is bound", async () => {
  const config = await readFile(join(ROOT, "wrangler.toml"), "utf8");
  expect(config).toMatch(
    /^# \[\[analytics_engine_datasets\]\]\n# binding = "ANALYTICS"\n# dataset = /m,
  );
});

describe("a data point", () => {
  const anyText = fc.oneof(fc.string({ unit: "binary" }), fc.string({ maxLength: 2_000 }));

  test("is within the platform's limits, whatever callers send", () => {
    fc.assert(
      fc.property(anyText, anyText, anyText, (tenant, tool, colo) => {
        const long = "€".repeat(20_000);
        for (const text of [tool, tool + long, long]) {
          const point = dataPointOf({ ...POINT, tenant: tenant + text, tool: text, colo });
          const blobs = (point.blobs ?? []).map(String);
          const indexes = (point.indexes ?? []).map(String);
          expect(blobs.length).toBeLessThanOrEqual(PLATFORM.blobs);
          expect(point.doubles?.length).toBeLessThanOrEqual(PLATFORM.doubles);
          expect(indexes).toHaveLength(PLATFORM.indexes);
          expect(bytes(indexes[0] ?? "")).toBeLessThanOrEqual(PLATFORM.indexBytes);
          const all = blobs.reduce((sum, blob) => sum + bytes(blob), 0);
          expect(all).toBeLessThanOrEqual(Math.min(PLATFORM.allBlobsBytes, OLDER_ALL_BLOBS_BYTES));
        }
      }),
    );
    expect(MAX_INDEX_BYTES).toBe(PLATFORM.indexBytes);
    expect(MAX_BLOB_BYTES * BLOBS.length).toBeLessThanOrEqual(OLDER_ALL_BLOBS_BYTES);
  });

  test("holds no credential that a client calls as a tool, also where it would be cut in two", () => {
    const secret = "S".repeat(43);
    for (const before of [0, 200, MAX_BLOB_BYTES - 30, MAX_BLOB_BYTES - 20]) {
      const tool = `${"x".repeat(before)} ag_${"a".repeat(16)}_${secret}`;
      const { blobs } = dataPointOf({ ...POINT, tool });
      expect(blobs?.[BLOBS.indexOf("tool")]).toBe("[REDACTED]");
    }
  });
});

describe("a caller's text", () => {
  test("is one line of whole characters", () => {
    expect(callerText("a\nb\u0000c\u2028d\u202ee", 100)).toBe("a b c d e");
    expect(callerText("\ud800", 100)).toBe("\ufffd");
    expect(cutToBytes("ab€", 4)).toBe("ab");
    expect(cutToBytes("ab€", 5)).toBe("ab€");
    expect(cutToBytes("a\u{1F600}", 2)).toBe("a");
    expect(cutToBytes("", 5)).toBe("");
  });

  test("is the longest beginning that fits", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), fc.nat(40), (text, max) => {
        const cut = cutToBytes(text, max);
        expect(text.startsWith(cut)).toBe(true);
        expect(bytes(cut)).toBeLessThanOrEqual(max);
        const next = [...text.slice(cut.length)][0];
        if (next !== undefined) expect(bytes(cut + next)).toBeGreaterThan(max);
      }),
    );
  });
});
