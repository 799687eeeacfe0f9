/**
 * @module
 * The Prometheus text format, version 0.0.4. Pure.
 */
import * as z from "zod";
import { BUCKETS_SECONDS, METRICS, type Metric } from "./catalogue.ts";
import type { Sample } from "./series.ts";

export const EXPOSITION_TYPE = "text/plain; version=0.0.4; charset=utf-8";

const labelsSchema = z.record(z.string(), z.string());

type Row = { readonly labels: Readonly<Record<string, string>>; readonly value: number };

/**
 * Every metric of the catalogue with its HELP and TYPE, and the samples that
 * there are of it; samples of anything else are left out.
 */
export function exposition(samples: readonly Sample[]): string {
  const rows = Map.groupBy(samples, ({ metric }) => metric);
  const rowsOf = (metric: string): Row[] =>
    (rows.get(metric) ?? [])
      .map(({ labels, value }) => ({ labels: labelsSchema.parse(JSON.parse(labels)), value }))
      .sort((a, b) => compare(JSON.stringify(a.labels), JSON.stringify(b.labels)));
  const lines: string[] = [];
  for (const [name, metric] of Object.entries<Metric>(METRICS)) {
    lines.push(`# HELP ${name} ${escapedHelp(metric.help)}`, `# TYPE ${name} ${metric.type}`);
    if (metric.type === "histogram") {
      lines.push(...histogram(name, rowsOf(`${name}_bucket`), rowsOf(`${name}_sum`)));
    } else {
      for (const { labels, value } of rowsOf(name)) lines.push(line(name, labels, value));
    }
  }
  return `${lines.join("\n")}\n`;
}

/** Buckets are stored apart; Prometheus wants each to count all that is below its bound. */
function histogram(name: string, buckets: readonly Row[], sums: readonly Row[]): string[] {
  return sums.flatMap(({ labels, value: sum }) => {
    const own = JSON.stringify(labels);
    const counts = new Map<string, number>();
    for (const { labels: all, value } of buckets) {
      const { le = "", ...rest } = all;
      if (JSON.stringify(rest) === own) counts.set(le, value);
    }
    let total = 0;
    const lines: string[] = [];
    for (const bound of [...BUCKETS_SECONDS.map(String), "+Inf"]) {
      total += counts.get(bound) ?? 0;
      lines.push(line(`${name}_bucket`, { ...labels, le: bound }, total));
    }
    return [...lines, line(`${name}_sum`, labels, sum), line(`${name}_count`, labels, total)];
  });
}

function line(name: string, labels: Readonly<Record<string, string>>, value: number): string {
  const parts = Object.entries(labels).map(([label, text]) => `${label}="${escapedLabel(text)}"`);
  return `${name}${parts.length === 0 ? "" : `{${parts.join(",")}}`} ${numberText(value)}`;
}

function numberText(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return "+Inf";
  if (value === Number.NEGATIVE_INFINITY) return "-Inf";
  return String(value);
}

function escapedLabel(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function escapedHelp(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
