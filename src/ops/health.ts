/**
 * @module
 * `/health` says that the Worker answers, without any I/O; `/health/ready` asks
 * every part that a call needs. Neither shows a secret or an address.
 */
import { openArchive } from "../archive/open.ts";
import { loadConfig } from "../config.ts";
import type { WitnessStatus } from "../log/log-object.ts";
import { logStub } from "../objects.ts";
import { VERSION } from "../version.ts";
import { checkDeployment, upSince } from "./deployment.ts";
import { endingKeys } from "./key-expiry.ts";

let startedAt: number | null = null;

/**
 * The liveness answer. Uptime counts from the deployment's first request, in
 * seconds; in an isolate that has not read when that was, from its own.
 */
export function health(now: number) {
  startedAt ??= now;
  return {
    status: "healthy",
    timestamp: new Date(now).toISOString(),
    uptime: Math.max(0, Math.floor((now - (upSince() ?? startedAt)) / 1000)),
    version: VERSION,
  };
}

/** `required: false`: calls go on without it, so that it does not make the gateway unready. */
export type Check = {
  ok: boolean;
  latency_ms: number;
  message?: string;
  required?: false;
  /** Of `keys`: until the next key ends that has no successor, seconds. */
  expires_in?: number;
};

export type Readiness = {
  status: "ready" | "unready";
  checks: Record<string, Check>;
};

/** Asks each part; a part that fails says so in a few words of the gateway's own. */
export async function readiness(env: Env): Promise<Readiness> {
  const loaded = loadConfig(env);
  const checks: Record<string, Check> = {};
  checks.configuration = loaded.ok
    ? { ok: true, latency_ms: 0 }
    : { ok: false, latency_ms: 0, message: loaded.message };
  const [archive, bucket, deployment] = await Promise.all([
    timed("the archive does not answer, or its migrations are not applied", async () => {
      if (!loaded.ok) return "the configuration is broken";
      return openArchive(env).ready();
    }),
    timed("the bucket does not answer", async () => {
      await env.BUCKET.head("ready");
      return null;
    }),
    timed("the deployment's facts cannot be read", async () => {
      if (!loaded.ok) return "the configuration is broken";
      const check = await checkDeployment(env, loaded.config, Date.now());
      return check.ok ? null : check.message;
    }),
  ]);
  Object.assign(checks, { archive, bucket, deployment });
  if (loaded.ok && deployment.ok) {
    const [log, keys] = await Promise.all([logChecks(env), keysCheck(env)]);
    Object.assign(checks, log, { keys });
  }
  const ready = Object.values(checks).every((check) => check.ok || check.required === false);
  return { status: ready ? "ready" : "unready", checks };
}

/** Whether a key ends within a week that has no successor yet: a reminder, and no reason to stop. */
async function keysCheck(env: Env): Promise<Check> {
  let expiresIn: number | undefined;
  const check = await timed("the keys cannot be read", async () => {
    const [next] = await endingKeys(env.ARCHIVE_DB, Date.now());
    if (next === undefined) return null;
    expiresIn = next.expires_in;
    return `a key of ${next.role} ends at ${next.expires_at} and has no successor`;
  });
  return {
    ...check,
    required: false,
    ...(expiresIn === undefined ? {} : { expires_in: expiresIn }),
  };
}

/** The log and its witnesses: records wait for them, calls do not. */
async function logChecks(env: Env): Promise<Record<string, Check>> {
  let witnesses: readonly WitnessStatus[] = [];
  const log = await timed("the log does not answer", async () => {
    const status = await logStub(env).status();
    witnesses = status.witnesses;
    if (status.open) return null;
    return status.refused === null
      ? "a store of the log does not answer"
      : `the log refuses to sign: ${status.refused}`;
  });
  const checks: Record<string, Check> = { log: { ...log, required: false } };
  if (witnesses.length > 0) {
    const silent = witnesses.flatMap(({ name, ok }) => (ok ? [] : [name]));
    checks.witnesses =
      silent.length === 0
        ? { ok: true, latency_ms: 0, required: false }
        : {
            ok: false,
            latency_ms: 0,
            message: `no cosignature from ${silent.join(", ")}`,
            required: false,
          };
  }
  return checks;
}

async function timed(failure: string, ask: () => Promise<string | null>): Promise<Check> {
  const start = Date.now();
  try {
    const message = await ask();
    const latency_ms = Date.now() - start;
    return message === null ? { ok: true, latency_ms } : { ok: false, latency_ms, message };
  } catch {
    // What a store says of its failure may name addresses; the message is ours.
    return { ok: false, latency_ms: Date.now() - start, message: failure };
  }
}
