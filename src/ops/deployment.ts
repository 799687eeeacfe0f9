/**
 * @module
 * Facts of a deployment that must not change under its state: the secrets that
 * its state was written under, and its jurisdiction. They are noted in D1 at
 * the first start and compared ever after, so that wrong secrets are a clear
 * refusal and not a hundred broken sessions.
 */
import { hmacSha256Hex } from "../audit/hash-node.ts";
import { type Config, loadConfig } from "../config.ts";
import { SingleFlight } from "../upstream/single-flight.ts";
import { logEvent } from "./log.ts";

export type DeploymentCheck = { ok: true } | { ok: false; message: string };

/** How long an isolate goes without asking again while the facts do not fit, or cannot be read. */
const RETRY_MS = 2_000;
/** How long others wait for one reading of the facts, in ms. */
const PATIENCE_MS = 2_000;

/** When the deployment answered its first request, Unix ms; null until this isolate has read it. */
let firstRequestAt: number | null = null;

/** Since when the deployment has been up, as far as this isolate knows without asking. */
export function upSince(): number | null {
  return firstRequestAt;
}

let known: { at: number; check: DeploymentCheck } | null = null;
let failure: { at: number; error: unknown } | null = null;
const flight = new SingleFlight<DeploymentCheck>(PATIENCE_MS);

/**
 * Checks the facts once an isolate, for all who wait for it; one that does not
 * fit is asked about again. Throws when D1 does not answer, or did not a moment ago.
 */
export async function checkDeployment(
  env: Env,
  config: Config,
  now: number,
): Promise<DeploymentCheck> {
  if (known !== null && (known.check.ok || now - known.at < RETRY_MS)) return known.check;
  if (failure !== null && now - failure.at < RETRY_MS) throw failure.error;
  return flight.run(() => readCheck(env, config, now));
}

async function readCheck(env: Env, config: Config, now: number): Promise<DeploymentCheck> {
  try {
    const check = canPin(env, config)
      ? await compareFacts(env.ARCHIVE_DB, config, now)
      : {
          ok: false as const,
          message: "JURISDICTION needs Cloudflare's network: this runtime cannot pin objects",
        };
    known = { at: now, check };
    failure = null;
    return check;
  } catch (error) {
    failure = { at: now, error };
    throw error;
  }
}

/** Reads the facts where nobody waits for them. Never throws. */
export async function learnDeployment(env: Env): Promise<void> {
  const loaded = loadConfig(env);
  if (!loaded.ok) return;
  try {
    await checkDeployment(env, loaded.config, Date.now());
  } catch (error) {
    logEvent("warn", "deployment_unreadable", { error: String(error) });
  }
}

/** Local workerd throws where a namespace is narrowed: better known now than at the first session. */
function canPin(env: Env, { jurisdiction }: Config): boolean {
  if (jurisdiction === null) return true;
  try {
    env.SESSION.jurisdiction(jurisdiction);
    return true;
  } catch {
    return false;
  }
}

async function compareFacts(db: D1Database, config: Config, now: number): Promise<DeploymentCheck> {
  const facts = new Map([
    ["secrets_check", hmacSha256Hex(config.secretsKey, "atlas-gate/check/v1")],
    ["jurisdiction", config.jurisdiction ?? "none"],
    ["first_request_at", new Date(now).toISOString()],
  ]);
  let stored = await readFacts(db);
  if ([...facts.keys()].some((key) => !stored.has(key))) {
    await db.batch(
      [...facts].map(([key, value]) =>
        db
          .prepare("INSERT INTO deployment (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING")
          .bind(key, value),
      ),
    );
    stored = await readFacts(db);
  }
  const first = Date.parse(stored.get("first_request_at") ?? "");
  if (!Number.isNaN(first)) firstRequestAt = first;
  if (stored.get("secrets_check") !== facts.get("secrets_check")) {
    return {
      ok: false,
      message:
        "SECRETS_KEY is not the one that the stored state was written under: restore it, or start with fresh state",
    };
  }
  if (stored.get("jurisdiction") !== facts.get("jurisdiction")) {
    return {
      ok: false,
      message: `JURISDICTION was fixed as ${stored.get("jurisdiction")} at the first start and cannot change`,
    };
  }
  return { ok: true };
}

async function readFacts(db: D1Database): Promise<Map<string, string>> {
  const { results } = await db
    .prepare("SELECT key, value FROM deployment")
    .all<{ key: string; value: string }>();
  return new Map(results.map(({ key, value }) => [key, value]));
}
