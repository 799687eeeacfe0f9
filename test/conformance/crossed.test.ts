import { CROSSED, isTranslatable } from "./baseline.ts";
import { startBehindGateway } from "./behind-gateway.ts";
import { describeSet } from "./describe-set.ts";
import { startEverything2025 } from "./everything-2025.ts";
import { startEverything2026 } from "./everything-2026.ts";

// The suite is a client of one era, the upstream a server of the other: the gateway translates.
await describeSet(
  "2025-11-25 through the gateway, of a 2026 upstream",
  "2025-11-25",
  () => startBehindGateway(startEverything2026),
  CROSSED,
  isTranslatable,
);
await describeSet(
  "2026-07-28 through the gateway, of a 2025 upstream",
  "2026-07-28",
  () => startBehindGateway(startEverything2025),
  CROSSED,
  isTranslatable,
);
