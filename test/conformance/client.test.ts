import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CLIENT, surprisesIn } from "./baseline.ts";
import { type Revision, runClientScenario } from "./suite.ts";

// What concerns a gateway's upstream side; the suite's others are about a user's OAuth client.
const SCENARIOS: Record<Revision, readonly string[]> = {
  "2025-11-25": ["initialize", "tools_call", "sse-retry", "json-schema-2020-12-preservation"],
  "2026-07-28": [
    "request-metadata",
    "tools_call",
    "http-standard-headers",
    "http-custom-headers",
    "http-invalid-tool-headers",
    "json-schema-ref-no-deref",
    "json-schema-2020-12-preservation",
    "sep-2322-client-request-state",
  ],
};

// The node on the PATH may be too old for it.
const DRIVER = `${process.execPath} ${join(import.meta.dirname, "client-driver.ts")}`;

describe.each(["2025-11-25", "2026-07-28"] as const)("the upstream client, %s", (revision) => {
  it.each(SCENARIOS[revision])("%s", async (scenario) => {
    const outcome = await runClientScenario(DRIVER, scenario, revision);
    expect(surprisesIn(outcome, CLIENT)).toEqual([]);
  });
});
