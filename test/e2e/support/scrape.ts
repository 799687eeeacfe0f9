/**
 * @module
 * `/metrics`, as Prometheus would read it.
 */
import { send } from "./http.ts";

/** Samples by name and labels, as they are written. */
export type Samples = ReadonlyMap<string, number>;

/** One scrape, with `METRICS_TOKEN` or an operator's key. Throws when it is refused. */
export async function scrape(url: string, credential: string): Promise<Samples> {
  const { status, text } = await send(`${url}/metrics`, {
    headers: { authorization: `Bearer ${credential}` },
  });
  if (status !== 200) throw new Error(`metrics: ${status} ${text}`);
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => {
      const space = line.lastIndexOf(" ");
      return [line.slice(0, space), Number(line.slice(space + 1))];
    }),
  );
}

/** All series of a metric that have these labels, added up. */
export function sum(samples: Samples, metric: string, ...labels: string[]): number {
  return [...samples]
    .filter(
      ([name]) => name.startsWith(`${metric}{`) && labels.every((each) => name.includes(each)),
    )
    .reduce((total, [, value]) => total + value, 0);
}
