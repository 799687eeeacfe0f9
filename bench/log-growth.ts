/**
 * @module
 * The transparency log at any size: whether a commit costs more the larger the
 * log is, what a proof costs, and how much of the tree its object holds.
 */
import { stringify } from "node:querystring";
import * as z from "zod";
import { median, percentile } from "./stats.ts";

/** Leaves of one commit, as many as the Log object takes. */
const COMMIT_LEAVES = 2_048;
const PROOFS = 50;
/** Of the first and of the last commits, so many are compared. */
const WINDOW_SHARE = 0.1;

export type LogGrowth = {
  readonly leaves: number;
  /** Milliseconds of a commit of 2,048 leaves, medians. */
  readonly early_ms: number;
  readonly late_ms: number;
  readonly proof_p50_ms: number;
  readonly proof_max_ms: number;
  /** Bytes of the tree that the object holds. */
  readonly held_bytes: number;
};

export async function measureLogGrowth(
  url: URL,
  leaves: number,
  signal: AbortSignal,
): Promise<LogGrowth> {
  const ask = async (path: string, n: number) => {
    const answer = await fetch(new URL(`${path}?${stringify({ n })}`, url), { signal });
    if (!answer.ok) throw new Error(`${path} answered ${answer.status}: ${await answer.text()}`);
    return z.number().parse(await answer.json());
  };
  const timed = async (path: string, n: number) => {
    const start = performance.now();
    const value = await ask(path, n);
    return { value, ms: performance.now() - start };
  };
  const commits: number[] = [];
  let size = 0;
  while (size < leaves) {
    const { value, ms } = await timed("/grow", Math.min(COMMIT_LEAVES, leaves - size));
    commits.push(ms);
    size = value;
  }
  // The first commit makes the tables, the last one may be small.
  const whole = commits.slice(1, -1);
  const window = Math.max(1, Math.floor(whole.length * WINDOW_SHARE));
  const proofs: number[] = [];
  for (let i = 0; i < PROOFS; i++) {
    proofs.push((await timed("/prove", Math.floor((i * size) / PROOFS))).ms);
  }
  return {
    leaves: size,
    early_ms: median(whole.slice(0, window)),
    late_ms: median(whole.slice(-window)),
    proof_p50_ms: median(proofs),
    proof_max_ms: percentile(proofs, 100),
    held_bytes: await ask("/held", 0),
  };
}
