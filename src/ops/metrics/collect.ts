/**
 * @module
 * What this isolate counts, and how it gets to the Metrics object: at most once
 * a second, after a response. An isolate that is lost loses its last second.
 */
import { metricsStub } from "../../objects.ts";
import { logEvent } from "../log.ts";
import { PacedWork } from "../paced-work.ts";
import type { MetricName } from "./catalogue.ts";
import { Counts, type Labels, type Sample } from "./series.ts";

const PUSH_EVERY_MS = 1_000;

const counts = new Counts();
const pushing = new PacedWork(PUSH_EVERY_MS);
/** This isolate's name towards the object: made at the first push, for globals have no randomness. */
let isolate: string | null = null;
let pushed = 0;
/** A push whose answer did not come: the same again, under the same number, before any other. */
let unanswered: { number: number; samples: Sample[] } | null = null;

type Later = (work: Promise<unknown>) => void;

/** Counts one. */
export function count(env: Env, later: Later, metric: MetricName, labels: Labels): void {
  counts.add(metric, labels);
  pushing.plan(later, () => push(env));
}

/** Puts a duration into its histogram. */
export function observe(
  env: Env,
  later: Later,
  metric: MetricName,
  labels: Labels,
  milliseconds: number,
): void {
  counts.observe(metric, labels, milliseconds / 1000);
  pushing.plan(later, () => push(env));
}

async function push(env: Env): Promise<void> {
  isolate ??= crypto.randomUUID();
  try {
    if (unanswered === null) {
      if (counts.isEmpty) return;
      pushed += 1;
      unanswered = { number: pushed, samples: counts.take() };
    }
    const pushing = unanswered;
    await metricsStub(env).push(isolate, pushing.number, pushing.samples);
    // Another push may have had the answer already, and gone on.
    if (unanswered === pushing) unanswered = null;
  } catch (error) {
    // The next count plans the next try.
    logEvent("warn", "metrics_not_pushed", { error: String(error) });
  }
}

/** Work in an object needs nobody to keep it alive for the second that it takes. */
export const inObject: Later = (work) => {
  void work;
};
