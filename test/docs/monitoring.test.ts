import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parser } from "@prometheus-io/lezer-promql";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import * as z from "zod";
import { METRICS, metricOf } from "../../src/ops/metrics/catalogue.ts";

const DOCS = join(import.meta.dirname, "..", "..", "docs");
const read = (name: string) => readFile(join(DOCS, name), "utf8");

const rulesSchema = z.strictObject({
  groups: z.array(
    z.strictObject({
      name: z.string(),
      rules: z.array(
        z.strictObject({
          alert: z.string().regex(/^AtlasGate[A-Z]\w+$/),
          expr: z.string(),
          for: z
            .string()
            .regex(/^\d+[smhd]$/)
            .optional(),
          labels: z.strictObject({ severity: z.enum(["warning", "critical"]) }),
          annotations: z.strictObject({ summary: z.string().min(1) }),
        }),
      ),
    }),
  ),
});

const dashboardSchema = z.looseObject({
  panels: z.array(
    z.looseObject({
      id: z.int(),
      title: z.string(),
      gridPos: z.strictObject({ h: z.int(), w: z.int(), x: z.int(), y: z.int() }),
      targets: z.array(z.looseObject({ expr: z.string(), refId: z.string() })).min(1),
    }),
  ),
});

const rules = rulesSchema
  .parse(parse(await read("monitoring/alerts.yaml")))
  .groups.flatMap((group) => group.rules);
const dashboard = dashboardSchema.parse(
  JSON.parse(await read("monitoring/grafana-dashboard.json")),
);
/** Grafana's own variable, as Prometheus gets it. */
const plain = (expr: string) => expr.replaceAll("$__rate_interval", "5m");
const expressions: [string, string][] = [
  ...rules.map(({ alert, expr }): [string, string] => [alert, expr]),
  ...dashboard.panels.flatMap(({ title, targets }) =>
    targets.map(({ expr }): [string, string] => [title, plain(expr)]),
  ),
];

/** What an expression names: metrics, and labels in selectors and groupings. */
function namesIn(expr: string): { metrics: string[]; labels: string[]; errors: number } {
  const metrics: string[] = [];
  const labels: string[] = [];
  let errors = 0;
  parser.parse(expr).iterate({
    enter: (node) => {
      const text = expr.slice(node.from, node.to);
      if (node.type.isError) errors += 1;
      if (node.name === "Identifier" && node.node.parent?.name === "VectorSelector") {
        metrics.push(text);
      }
      if (node.name === "LabelName") labels.push(text);
    },
  });
  return { metrics, labels, errors };
}

/** The metric of the catalogue that a series belongs to; those of a histogram carry a suffix. */
function definitionOf(series: string) {
  const own = metricOf(series);
  if (own !== null) return own.type === "histogram" ? null : own;
  const whole = metricOf(series.replace(/_(?:bucket|sum|count)$/, ""));
  return whole?.type === "histogram" ? { ...whole, labels: [...whole.labels, "le"] } : null;
}

test.each(expressions)(
  "%s: the expression parses, and names metrics and labels that there are",
  (_name, expr) => {
    const { metrics, labels, errors } = namesIn(expr);
    expect(errors).toBe(0);
    expect(metrics.length).toBeGreaterThan(0);
    const known = new Set(
      metrics.flatMap((series) => {
        const definition = definitionOf(series);
        expect(definition, series).not.toBeNull();
        return definition?.labels ?? [];
      }),
    );
    for (const label of labels) expect(known).toContain(label);
  },
);

describe("the test itself", () => {
  test("sees what does not parse, and names that are not there", () => {
    expect(namesIn("sum(rate(mcp_requests_total[5m])").errors).toBeGreaterThan(0);
    expect(definitionOf("mcp_no_such_total")).toBeNull();
    expect(definitionOf("mcp_request_duration_seconds")).toBeNull();
    expect(namesIn('sum by (colour) (mcp_session_active{era="2025"})').labels).toEqual([
      "colour",
      "era",
    ]);
  });
});

test("every alert is in the on-call document, and none twice", async () => {
  const document = await read("on-call.md");
  const names = rules.map(({ alert }) => alert);
  expect(new Set(names).size).toBe(names.length);
  for (const name of names) expect(document).toContain(name);
});

test("every metric is shown or watched somewhere", () => {
  const used = new Set(
    expressions.flatMap(([, expr]) =>
      namesIn(expr).metrics.map((series) => series.replace(/_bucket$/, "")),
    ),
  );
  for (const name of Object.keys(METRICS)) expect(used).toContain(name);
});

test("panels have ids of their own and do not overlap", () => {
  const cells = dashboard.panels.flatMap(({ gridPos: { h, w, x, y } }) =>
    Array.from({ length: h * w }, (_, n) => `${x + (n % w)},${y + Math.floor(n / w)}`),
  );
  expect(new Set(cells).size).toBe(cells.length);
  expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length);
});
