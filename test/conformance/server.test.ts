import { GATEWAY } from "./baseline.ts";
import { startBehindGateway } from "./behind-gateway.ts";
import { describeSet } from "./describe-set.ts";
import { startEverything2025 } from "./everything-2025.ts";
import { startEverything2026 } from "./everything-2026.ts";

await describeSet(
  "2025-11-25 through the gateway",
  "2025-11-25",
  () => startBehindGateway(startEverything2025),
  GATEWAY,
);
await describeSet(
  "2026-07-28 through the gateway",
  "2026-07-28",
  () => startBehindGateway(startEverything2026),
  GATEWAY,
);
