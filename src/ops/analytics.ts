/**
 * @module
 * One Analytics Engine data point a request, where the optional binding
 * `ANALYTICS` is there. What it holds, place by place, is in
 * docs/monitoring/README.md, which a test holds against this table.
 *
 * The platform drops a whole point that is over its limits, without a word:
 * every text in one is bounded here.
 */
import { callerText, cutToBytes } from "./caller-text.ts";
import { logEvent } from "./log.ts";

export type RequestPoint = {
  readonly tenant: string | null;
  readonly route: string;
  readonly method: string;
  readonly role: string;
  readonly era: string;
  readonly tool: string | null;
  readonly errorCode: string | null;
  readonly colo: string | null;
  readonly status: number;
  readonly durationMs: number;
};

/** The fields in the order of their places: `blob1` is the first. Queries name them by place, so that none may move. */
export const BLOBS = [
  "route",
  "method",
  "role",
  "era",
  "tool",
  "errorCode",
  "colo",
] as const satisfies readonly (keyof RequestPoint)[];
export const DOUBLES = ["status", "durationMs"] as const satisfies readonly (keyof RequestPoint)[];

/** Bytes of an index, as the platform has it. */
export const MAX_INDEX_BYTES = 96;
/** Bytes of each blob: all of them together may have 16 KB on the platform, and 5 KB on those that have the older limit. */
export const MAX_BLOB_BYTES = 256;

/** The point as the platform takes it. Pure. */
export function dataPointOf(point: RequestPoint): AnalyticsEngineDataPoint {
  return {
    indexes: [cutToBytes(point.tenant ?? "none", MAX_INDEX_BYTES)],
    blobs: BLOBS.map((field) => callerText(point[field] ?? "", MAX_BLOB_BYTES)),
    doubles: DOUBLES.map((field) => point[field]),
  };
}

/** Writes the point, or does nothing where nobody wants it; a request never fails by it. */
export function writePoint(env: object, makePoint: () => RequestPoint): void {
  try {
    const dataset = datasetOf(env);
    if (dataset !== null) dataset.writeDataPoint(dataPointOf(makePoint()));
  } catch (error) {
    logEvent("warn", "analytics_failed", { error: String(error) });
  }
}

function datasetOf(env: object): AnalyticsEngineDataset | null {
  const binding: unknown = "ANALYTICS" in env ? env.ANALYTICS : null;
  return isDataset(binding) ? binding : null;
}

function isDataset(binding: unknown): binding is AnalyticsEngineDataset {
  return typeof binding === "object" && binding !== null && "writeDataPoint" in binding;
}
