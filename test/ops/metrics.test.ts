import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isMetric, METRICS } from "../../src/ops/metrics/catalogue.ts";
import { exposition } from "../../src/ops/metrics/exposition.ts";
import {
  eraLabel,
  LABEL_VALUES,
  methodLabel,
  NONE,
  OTHER,
  REGISTERED,
  reasonLabel,
  roleLabel,
  statusLabel,
} from "../../src/ops/metrics/labels.ts";
import { Counts } from "../../src/ops/metrics/series.ts";

describe("every label of the catalogue", () => {
  const LABELS = [...new Set(Object.values(METRICS).flatMap(({ labels }) => [...labels]))].sort();
  const anyText = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.constantFrom("windsurf", "tools/call", "2026", "__proto__", "constructor", "valueOf", ""),
  );

  test("has a closed list, but for the names that operators register", () => {
    expect(Object.keys(LABEL_VALUES).sort()).toEqual(LABELS);
    const open = LABELS.filter((label) => Reflect.get(LABEL_VALUES, label) === REGISTERED);
    expect(open).toEqual(["tool", "upstream"]);
  });

  test("is a value of its list, whoever counts and whatever it is called with", () => {
    const isNamed = (label: string, value: unknown) => {
      const values: ReadonlySet<unknown> | typeof REGISTERED = Reflect.get(LABEL_VALUES, label);
      return values === REGISTERED || [NONE, OTHER].includes(String(value)) || values.has(value);
    };
    const counts = new Counts();
    fc.assert(
      fc.property(
        fc.constantFrom(...Object.keys(METRICS).filter(isMetric)),
        fc.record(Object.fromEntries(LABELS.map((label) => [label, anyText]))),
        (metric, labels) => {
          // What is registered is no caller's text, and is held to its list where it is counted.
          const named = { ...labels, tool: "read_file", upstream: "one" };
          if (METRICS[metric].type === "histogram") counts.observe(metric, named, 1);
          else counts.add(metric, named);
        },
      ),
      { numRuns: 20_000 },
    );
    const samples = counts.take();
    const metricsOf = new Set(samples.map(({ metric }) => metric.replace(/_(?:bucket|sum)$/, "")));
    expect(metricsOf.size).toBe(Object.keys(METRICS).length);
    for (const { labels } of samples) {
      const { le: _le, ...named } = JSON.parse(labels);
      for (const [label, value] of Object.entries(named)) {
        expect(isNamed(label, value), `${label} ${value}`).toBe(true);
      }
    }
  });
});

describe("label values", () => {
  test("are of closed lists, whatever a client sends: the number of series has a bound", () => {
    const counts = new Counts();
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.string(), fc.integer(), (a, b, c, status) => {
        counts.add("mcp_requests_total", {
          role: roleLabel(a),
          method: methodLabel(b),
          era: eraLabel(c),
          status: statusLabel(status),
        });
        counts.add("mcp_auth_failures_total", { reason: reasonLabel(a) });
      }),
      { numRuns: 20_000 },
    );
    const labels = counts.take().map((sample) => JSON.parse(sample.labels));
    const distinct = (name: string) => new Set(labels.map((each) => each[name])).size;
    expect(distinct("role")).toBeLessThanOrEqual(2);
    expect(distinct("method")).toBeLessThanOrEqual(2);
    expect(distinct("era")).toBeLessThanOrEqual(2);
    expect(distinct("reason")).toBeLessThanOrEqual(2);
    expect(labels.length).toBeLessThan(2 * 2 * 2 * 501);
  });

  test("of what the gateway knows are kept", () => {
    expect(methodLabel("tools/call")).toBe("tools/call");
    expect(methodLabel(null)).toBe("none");
    expect(methodLabel("__proto__")).toBe("other");
    expect(roleLabel("windsurf")).toBe("windsurf");
    expect(reasonLabel("KEY_EXPIRED")).toBe("KEY_EXPIRED");
    expect(statusLabel(429)).toBe("429");
  });
});

describe("the exposition", () => {
  test("is text 0.0.4: HELP and TYPE of each metric, buckets that add up, a sum and a count", () => {
    const counts = new Counts();
    counts.observe("mcp_upstream_duration_seconds", { upstream: "github" }, 0.02);
    counts.observe("mcp_upstream_duration_seconds", { upstream: "github" }, 0.3);
    counts.observe("mcp_upstream_duration_seconds", { upstream: "github" }, 99);
    counts.add("mcp_auth_failures_total", { reason: "KEY_EXPIRED" }, 3);
    const text = exposition(counts.take());
    const lines = text.split("\n");
    for (const [name, { type }] of Object.entries(METRICS)) {
      expect(lines.filter((line) => line.startsWith(`# HELP ${name} `))).toHaveLength(1);
      expect(lines.filter((line) => line === `# TYPE ${name} ${type}`)).toHaveLength(1);
    }
    const bucket = (le: string) =>
      `mcp_upstream_duration_seconds_bucket{upstream="github",le="${le}"}`;
    expect(lines).toContain(`${bucket("0.01")} 0`);
    expect(lines).toContain(`${bucket("0.025")} 1`);
    expect(lines).toContain(`${bucket("0.5")} 2`);
    expect(lines).toContain(`${bucket("60")} 2`);
    expect(lines).toContain(`${bucket("+Inf")} 3`);
    expect(lines).toContain('mcp_upstream_duration_seconds_count{upstream="github"} 3');
    expect(lines).toContain('mcp_upstream_duration_seconds_sum{upstream="github"} 99.32');
    expect(lines).toContain('mcp_auth_failures_total{reason="KEY_EXPIRED"} 3');
    expect(text.endsWith("\n")).toBe(true);
  });

  test("escapes label values and leaves out what is no metric of the gateway's", () => {
    const text = exposition([
      {
        metric: "mcp_tool_calls_total",
        labels: JSON.stringify({ role: "windsurf", tool: 'a"b\\c\nd', result: "ok" }),
        value: 1,
      },
      { metric: "evil_total", labels: "{}", value: 1 },
    ]);
    expect(text).toContain('tool="a\\"b\\\\c\\nd"');
    expect(text).not.toContain("evil");
  });
});
