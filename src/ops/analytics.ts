/**
 * @module
 * One Analytics Engine data point a request, where the optional binding
 * `ANALYTICS` is there. What it holds, place by place, is in
 * docs/monitoring/README.md.
 */
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

/** Bytes of an index, as the platform has it. */
const MAX_INDEX = 96;

/** Writes the point, or does nothing where nobody wants it; a request never fails by it. */
export function writePoint(env: object, makePoint: () => RequestPoint): void {
  try {
    const dataset = datasetOf(env);
    if (dataset === null) return;
    const point = makePoint();
    dataset.writeDataPoint({
      indexes: [(point.tenant ?? "none").slice(0, MAX_INDEX)],
      blobs: [
        point.route,
        point.method,
        point.role,
        point.era,
        point.tool,
        point.errorCode,
        point.colo,
      ],
      doubles: [point.status, point.durationMs],
    });
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
