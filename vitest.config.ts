import { cloudflareTest, readD1Migrations } from "@cloudflare/vitest-pool-workers";
import { Response as MiniflareResponse } from "miniflare";
import { defineConfig } from "vitest/config";

/** Fixed secrets of the tests' own deployment: base64 of 32 equal bytes. */
const TEST_SECRETS = {
  ADMIN_TOKEN: Buffer.alloc(32, 1).toString("base64"),
  LOG_SIGNING_KEY: Buffer.alloc(32, 2).toString("base64"),
  SECRETS_KEY: Buffer.alloc(32, 3).toString("base64"),
};

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: [
            "test/**/*.workers.test.ts",
            "test/e2e/**",
            "test/conformance/**",
            "test/postgres/**",
          ],
          // Property tests take seconds, and longer beside other work.
          testTimeout: 60_000,
        },
      },
      {
        plugins: [
          cloudflareTest(async () => ({
            wrangler: { configPath: "./wrangler.toml" },
            miniflare: {
              // Nothing leaves the machine, and no name leads anywhere.
              outboundService: (request: { url: string }) =>
                new URL(request.url).pathname === "/dns-query"
                  ? MiniflareResponse.json({ Status: 3 })
                  : new MiniflareResponse(null, { status: 502 }),
              bindings: {
                ...TEST_SECRETS,
                // The clock stands still in most files, and a bucket would never fill again; a
                // key's own limits hold all the same, and are what the tests of limits use.
                RATE_LIMIT_PER_MINUTE: "0",
                TEST_MIGRATIONS: await readD1Migrations("migrations/d1"),
              },
            },
          })),
        ],
        test: {
          name: "workers",
          include: ["test/**/*.workers.test.ts"],
          setupFiles: ["test/support/apply-migrations.ts"],
          testTimeout: 60_000,
        },
      },
      {
        test: {
          name: "e2e",
          include: ["test/e2e/**/*.test.ts"],
          // Each file runs a gateway of its own, and waits for it most of the time.
          maxWorkers: 2,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "postgres",
          include: ["test/postgres/**/*.test.ts"],
          // Each file runs a server of its own, most of them a gateway too.
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "conformance",
          include: ["test/conformance/**/*.test.ts"],
          // Each file runs a gateway and the suite beside it, and measures times.
          fileParallelism: false,
          testTimeout: 120_000,
          // A whole set of scenarios runs in a hook, so that each can be named as a test.
          hookTimeout: 600_000,
        },
      },
    ],
  },
});
