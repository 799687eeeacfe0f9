/**
 * @module
 * Series of counts and how they are added up. A histogram is counts too: one
 * for each bucket, and the sum. Pure.
 */
import { BUCKETS_SECONDS, METRICS, type MetricName } from "./catalogue.ts";
import { closedValue } from "./labels.ts";

export type Labels = Readonly<Record<string, string>>;

/** One number of one series; `labels` is JSON with its keys in the catalogue's order. */
export type Sample = {
  readonly metric: string;
  readonly labels: string;
  readonly value: number;
};

/** Counts that wait to be added to what is stored. */
export class Counts {
  readonly #values = new Map<string, Sample>();

  get isEmpty(): boolean {
    return this.#values.size === 0;
  }

  get size(): number {
    return this.#values.size;
  }

  add(metric: MetricName, labels: Labels, by = 1): void {
    this.#put(metric, labelsText(metric, closed(labels)), by);
  }

  /** Puts a duration into its histogram. */
  observe(metric: MetricName, labels: Labels, seconds: number): void {
    const bucket = BUCKETS_SECONDS.find((bound) => seconds <= bound);
    const text = labelsText(metric, closed(labels));
    // Kept apart by bucket; what is below a bound is added up when it is shown.
    this.#put(
      `${metric}_bucket`,
      withBound(text, bucket === undefined ? "+Inf" : String(bucket)),
      1,
    );
    this.#put(`${metric}_sum`, text, seconds);
  }

  /** Takes all there is. */
  take(): Sample[] {
    const samples = [...this.#values.values()];
    this.#values.clear();
    return samples;
  }

  #put(metric: string, labels: string, by: number): void {
    const key = `${metric} ${labels}`;
    const value = (this.#values.get(key)?.value ?? 0) + by;
    this.#values.set(key, { metric, labels, value });
  }
}

/** The labels of a series as it is stored: those of the catalogue, in its order, whatever is given. */
export function labelsText(metric: MetricName, labels: Labels): string {
  return JSON.stringify(
    Object.fromEntries(METRICS[metric].labels.map((name) => [name, labels[name] ?? "none"])),
  );
}

/** Whatever is counted, by whomever: a caller's text that gets here must not become a series. */
function closed(labels: Labels): Labels {
  return Object.fromEntries(
    Object.entries(labels).map(([name, value]) => [name, closedValue(name, value)]),
  );
}

function withBound(labels: string, bound: string): string {
  return labels === "{}" ? `{"le":"${bound}"}` : `${labels.slice(0, -1)},"le":"${bound}"}`;
}
