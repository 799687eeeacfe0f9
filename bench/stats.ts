/**
 * @module
 * The few statistics that the benchmark reports.
 */

/** The middle value; of an even number of values the lower of the two. NaN for none. */
export function median(values: readonly number[]): number {
  return percentile(values, 50);
}

/** The nearest-rank percentile, from 0 to 100. NaN for no values. */
export function percentile(values: readonly number[], rank: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = Math.max(0, Math.ceil((rank / 100) * sorted.length) - 1);
  return sorted[at] ?? Number.NaN;
}

export type Spread = { readonly median: number; readonly min: number; readonly max: number };

export function spread(values: readonly number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}
