/**
 * @module
 * Runs wrangler offline and in a process group of its own, and ends that group
 * as a whole: wrangler leaves workerd behind when only it is killed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { SECRETS } from "./local-state.ts";

export const ROOT = join(import.meta.dirname, "..", "..");
const CLI = join(ROOT, "node_modules", "wrangler", "wrangler-dist", "cli.js");
const LEAVE_WITH_PARENT = new URL("./leave-with-parent.mjs", import.meta.url).href;

/** Nothing is asked, nothing is reported, nothing is fetched; local tracing costs more than the gateway does. */
function offlineEnv(stateDir: string): NodeJS.ProcessEnv {
  const env = {
    ...process.env,
    CI: "1",
    CLOUDFLARE_CF_FETCH_ENABLED: "false",
    WRANGLER_SEND_METRICS: "false",
    WRANGLER_SEND_ERROR_REPORTS: "false",
    WRANGLER_HIDE_BANNER: "true",
    WRANGLER_WRITE_LOGS: "false",
    WRANGLER_LOG_PATH: join(stateDir, "logs"),
    WRANGLER_REGISTRY_PATH: join(stateDir, "registry"),
    X_LOCAL_OBSERVABILITY: "false",
    X_LOCAL_EXPLORER: "false",
    NO_UPDATE_NOTIFIER: "1",
  };
  // wrangler would prefer a secret of the shell to the one that belongs to the state.
  for (const secret of SECRETS) Reflect.deleteProperty(env, secret);
  return env;
}

/** Starts a wrangler that stays, such as `wrangler dev`; its output is the caller's to read. */
export function startWrangler(
  args: readonly string[],
  stateDir: string,
  env: Readonly<Record<string, string>> = {},
): ChildProcess {
  return spawn(process.execPath, ["--no-warnings", "--import", LEAVE_WITH_PARENT, CLI, ...args], {
    cwd: ROOT,
    env: { ...offlineEnv(stateDir), ...env },
    // The channel is only there to be cut when this process is gone.
    stdio: ["ignore", "pipe", "pipe", "ipc"],
    detached: process.platform !== "win32",
  });
}

/** Runs wrangler to its end; throws with the last of its output when it fails. */
export async function runWrangler(
  args: readonly string[],
  stateDir: string,
  signal?: AbortSignal,
): Promise<string> {
  const child = spawn(process.execPath, ["--no-warnings", CLI, ...args], {
    cwd: ROOT,
    env: offlineEnv(stateDir),
    stdio: ["ignore", "pipe", "pipe"],
    ...(signal === undefined ? {} : { signal }),
  });
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
  });
  child.stderr.on("data", (chunk) => {
    output += chunk;
  });
  const code = await exitOf(child);
  if (code === 0) return output;
  throw new Error(`wrangler ${args.slice(0, 3).join(" ")} failed: ${lastLines(output)}`);
}

/** The exit code of a child, 1 when a signal ended it. */
export function exitOf(child: ChildProcess): Promise<number> {
  if (child.exitCode !== null) return Promise.resolve(child.exitCode);
  if (child.signalCode !== null) return Promise.resolve(1);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => resolve(code ?? 1));
  });
}

/** Ends a child and everything it started; returns when it is gone. */
export async function stopGroup(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const gone = exitOf(child);
  signalGroup(child.pid, signal);
  const patience = setTimeout(() => child.pid && signalGroup(child.pid, "SIGKILL"), 5_000);
  await gone;
  clearTimeout(patience);
  endGroup(child);
}

/** Takes down what a child has left behind: wrangler leaves workerd. */
export function endGroup(child: ChildProcess): void {
  if (child.pid !== undefined) signalGroup(child.pid, "SIGKILL");
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(process.platform === "win32" ? pid : -pid, signal);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}

export function lastLines(output: string): string {
  return output
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "")
    .slice(-3)
    .join(" ");
}
