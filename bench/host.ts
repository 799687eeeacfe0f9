/**
 * @module
 * Hosts for the benchmark: workerd under Miniflare, in a process of its own
 * and with its stores on disk, reached at the Worker's own socket. No entry
 * Worker and no proxy stand before it; those of `wrangler dev` cost more than
 * the gateway does.
 */
import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { cpuMs, rssBytes } from "./cpu.ts";

const PROCESS = join(import.meta.dirname, "host-process.ts");
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 5_000;
/** Of the errors that a Worker logged, so many are shown when a run fails. */
const KEPT_ERRORS = 10;

export type HostPlan = {
  /** JavaScript of one module. */
  readonly script: string;
  readonly stateDir: string;
  /** The wrangler.toml that compatibility date, flags and bindings come from. */
  readonly config: string;
} & (
  | { readonly kind: "floor" }
  /** Everything as `config` describes it. */
  | { readonly kind: "log" }
  | {
      readonly kind: "gateway";
      readonly migrationsDir: string;
      /** Secrets, and variables that differ from wrangler.toml. */
      readonly secrets: Readonly<Record<string, string>>;
    }
);

export type HostMessage =
  | { readonly kind: "ready"; readonly url: string; readonly pid: number | null }
  | { readonly kind: "failed"; readonly message: string }
  | { readonly kind: "log"; readonly message: string };

export type Host = {
  readonly url: URL;
  /** Processor time of workerd so far, in ms; null where it cannot be read. */
  readonly cpuMs: () => number | null;
  /** Resident memory of workerd, in bytes; null where it cannot be read. */
  readonly rssBytes: () => number | null;
  /** The last errors that the Worker logged. */
  readonly errors: () => readonly string[];
  readonly stop: () => Promise<void>;
};

/** Starts a host; throws with its reason when it does not come up. */
export async function startHost(plan: HostPlan, signal: AbortSignal): Promise<Host> {
  signal.throwIfAborted();
  const child = fork(PROCESS, { execArgv: ["--no-warnings"], stdio: "ignore" });
  const errors: string[] = [];
  const ready = firstAnswer(child, errors, signal);
  child.send(plan);
  try {
    const { url, pid } = await ready;
    return {
      url: new URL(url),
      cpuMs: () => cpuMs(pid),
      rssBytes: () => rssBytes(pid),
      errors: () => errors,
      stop: () => stop(child),
    };
  } catch (error) {
    await stop(child);
    throw error;
  }
}

function firstAnswer(
  child: ChildProcess,
  errors: string[],
  signal: AbortSignal,
): Promise<Extract<HostMessage, { kind: "ready" }>> {
  return new Promise((resolve, reject) => {
    const timeout = setTimeout(() => reject(new Error("A host did not start.")), START_TIMEOUT_MS);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    child.once("error", reject);
    child.once("exit", () => reject(new Error("A host ended before it was ready.")));
    child.on("message", (message: HostMessage) => {
      if (message.kind === "log") {
        errors.push(message.message);
        if (errors.length > KEPT_ERRORS) errors.shift();
        return;
      }
      clearTimeout(timeout);
      if (message.kind === "ready") resolve(message);
      else reject(new Error(`A host did not start: ${message.message}`));
    });
  });
}

/** Its channel cut, a host ends its workerd and itself. */
async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const patience = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
  if (child.connected) child.disconnect();
  await gone;
  clearTimeout(patience);
}
