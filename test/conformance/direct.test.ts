import { DIRECT } from "./baseline.ts";
import { describeSet } from "./describe-set.ts";
import { startEverything2025 } from "./everything-2025.ts";
import { startEverything2026 } from "./everything-2026.ts";

// What the upstreams cannot do themselves, no gateway can show of them.
await describeSet("2025-11-25, no gateway between", "2025-11-25", startEverything2025, DIRECT);
await describeSet("2026-07-28, no gateway between", "2026-07-28", startEverything2026, DIRECT);
