/**
 * @module
 * Series of counts and how they are added up. A histogram is counts too: one
 * for each bucket, and the sum. Pure.
 */
import { BUCKETS_SECONDS, METRICS, type MetricName } from "./catalogue.ts";
import { closedValue, NONE } from "./labels.ts";

export type Labels = Readonly<Record<string, string>>;

/** One number of one series; `labels` is JSON with its keys in the catalogue's order. */
export type Sample = {
  readonly metric: string;
  readonly labels: string;
  readonly value: number;
};

/** A series that is being counted. */
type Series = { readonly metric: string; readonly labels: string; value: number };

/** Between label values in a key; no value of a closed list has it. */
const SEPARATOR = "\n";

/** Counts that wait to be added to what is stored. Every request comes by here: labels become JSON once a series, not once a request. */
export class Counts {
  readonly #series = new Map<string, Series>();

  get isEmpty(): boolean {
    return this.#series.size === 0;
  }

  get size(): number {
    return this.#series.size;
  }

  add(metric: MetricName, labels: Labels, by = 1): void {
    this.#put(keyOf(metric, labels), by, () => ({
      metric,
      labels: labelsText(metric, closed(labels)),
    }));
  }

  /** Puts a duration into its histogram. */
  observe(metric: MetricName, labels: Labels, seconds: number): void {
    const bound = BUCKETS_SECONDS.find((each) => seconds <= each);
    const key = keyOf(metric, labels);
    const text = () => labelsText(metric, closed(labels));
    // Kept apart by bucket; what is below a bound is added up when it is shown.
    this.#put(`${key}${SEPARATOR}${bound}`, 1, () => ({
      metric: `${metric}_bucket`,
      labels: withBound(text(), bound === undefined ? "+Inf" : String(bound)),
    }));
    this.#put(`${key}${SEPARATOR}sum`, seconds, () => ({
      metric: `${metric}_sum`,
      labels: text(),
    }));
  }

  /** Takes all there is. */
  take(): Sample[] {
    const samples = [...this.#series.values()];
    this.#series.clear();
    return samples;
  }

  #put(key: string, by: number, make: () => Omit<Series, "value">): void {
    const series = this.#series.get(key);
    if (series !== undefined) series.value += by;
    else this.#series.set(key, { ...make(), value: by });
  }
}

function keyOf(metric: MetricName, labels: Labels): string {
  let key: string = metric;
  for (const name of METRICS[metric].labels) {
    key += SEPARATOR + closedValue(name, labels[name] ?? NONE);
  }
  return key;
}

/** The labels of a series as it is stored: those of the catalogue, in its order, whatever is given. */
export function labelsText(metric: MetricName, labels: Labels): string {
  return JSON.stringify(
    Object.fromEntries(METRICS[metric].labels.map((name) => [name, labels[name] ?? NONE])),
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
