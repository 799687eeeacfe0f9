/**
 * @module
 * The child process that holds one Miniflare, which holds one workerd: told
 * what to host by its first message, and gone when its parent is.
 */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { convertV4MiniflareOptions, Miniflare, type V4WorkerOptions } from "miniflare";
import { unstable_getMiniflareWorkerOptions as workerOptionsOf } from "wrangler";
import { firstChild } from "./cpu.ts";
import type { HostMessage, HostPlan } from "./host.ts";

const ADDRESS = "127.0.0.1";
const WORKER = "bench";

let miniflare: Miniflare | null = null;

// Ctrl-C reaches the whole process group; the parent then stops this process in order.
process.on("SIGINT", () => undefined);
process.once("message", (plan: HostPlan) => {
  start(plan).then(tell, (error: unknown) => {
    tell({ kind: "failed", message: error instanceof Error ? error.message : String(error) });
  });
});
process.once("disconnect", async () => {
  await miniflare?.dispose();
  process.exit(0);
});

async function start(plan: HostPlan): Promise<HostMessage> {
  await mkdir(plan.stateDir, { recursive: true });
  await discardStdout(plan.stateDir);
  const contents = await readFile(plan.script, "utf8");
  miniflare = new Miniflare(
    convertV4MiniflareOptions({
      resourcePersistencePath: plan.stateDir,
      // Nothing is fetched from outside.
      cf: false,
      // What workerd itself has to say, on stderr: why a run failed.
      handleStructuredLogs: ({ level, message }) => {
        if (level === "error") tell({ kind: "log", message });
      },
      workers: [workerOf(plan, contents)],
    }),
  );
  await miniflare.ready;
  if (plan.kind === "gateway") await migrate(miniflare, plan.migrationsDir);
  const url = await miniflare.unsafeGetDirectURL(WORKER);
  return { kind: "ready", url: url.href, pid: firstChild(process.pid) };
}

/**
 * The Worker writes a line of log for each request, as it does anywhere; the
 * kernel throws it away. Miniflare would parse it, in a process that takes
 * processor time from those that are measured.
 */
async function discardStdout(dir: string): Promise<void> {
  if (process.platform === "win32") return;
  const path = join(dir, "workerd.sh");
  const { default: binary } = createRequire(import.meta.url)("workerd");
  await writeFile(path, `#!/bin/sh\nexec "${binary}" "$@" >/dev/null\n`, { mode: 0o755 });
  process.env.MINIFLARE_WORKERD_PATH = path;
}

/** The gateway as its own configuration describes it; the floors with the same date and flags. */
function workerOf(plan: HostPlan, contents: string): V4WorkerOptions {
  const configured: V4WorkerOptions = {
    ...workerOptionsOf(plan.config).workerOptions,
    modules: [{ type: "ESModule", path: "worker.js", contents }],
  };
  const common = {
    name: WORKER,
    modules: configured.modules,
    unsafeDirectSockets: [{ host: ADDRESS, port: 0 }],
  };
  if (plan.kind === "gateway") {
    const bindings = { ...configured.bindings, ...WIDE_LIMITS, ...plan.secrets };
    return { ...configured, ...common, bindings, ratelimits: WIDE_COUNTERS };
  }
  if (plan.kind === "log") return { ...configured, ...common };
  const { compatibilityDate = "", compatibilityFlags = [] } = configured;
  return {
    ...common,
    compatibilityDate,
    compatibilityFlags,
    durableObjects: {
      FLOOR: { className: "FloorObject", useSQLite: true },
      OTHER: { className: "OtherObject", useSQLite: true },
    },
  };
}

/** Limits are on, for they are part of what a call costs, and far off. */
const FAR = 1_000_000;
const WIDE_LIMITS = {
  RATE_LIMIT_PER_MINUTE: String(FAR),
  RATE_LIMIT_BURST: String(FAR),
  RATE_LIMIT_PRINCIPAL_PER_MINUTE: String(FAR),
};
const WIDE_COUNTERS = Object.fromEntries(
  ["PRINCIPAL_LIMITER", "ADDRESS_LIMITER", "FAILURE_LIMITER"].map((name) => [
    name,
    { namespace_id: name, simple: { limit: FAR, period: 60 as const } },
  ]),
);

async function migrate(host: Miniflare, dir: string): Promise<void> {
  const archive = await host.getD1Database("ARCHIVE_DB", WORKER);
  const files = (await readdir(dir)).filter((name) => name.endsWith(".sql")).sort();
  for (const file of files) {
    const text = await readFile(join(dir, file), "utf8");
    for (const statement of text.split("--> statement-breakpoint")) {
      await archive.prepare(statement).run();
    }
  }
}

function tell(message: HostMessage): void {
  if (process.connected) process.send?.(message);
}
