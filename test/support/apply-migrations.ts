import { applyD1Migrations } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterAll, expect } from "vitest";
import { sumProblemsOfD1 } from "./archive-sums.ts";

await applyD1Migrations(env.ARCHIVE_DB, env.TEST_MIGRATIONS);

// Registered before a file's own hooks, and so the last to run.
afterAll(async () => {
  expect(await sumProblemsOfD1(), "counts that are not what the archive holds").toEqual([]);
});
