/**
 * @module
 * Tells the receivers of `ALERT_WEBHOOKS`: once an hour for each kind of alert,
 * only to addresses that upstreams could have too, and never so that anything
 * waits for it or fails by it.
 */
import { type Config, requireConfig } from "../../config.ts";
import { metricsStub } from "../../objects.ts";
import { guardedFetch } from "../../upstream/address.ts";
import { logEvent } from "../log.ts";
import { type Alert, messageFor, type Webhook } from "./webhooks.ts";

/** Pause between two alerts of one key, in ms. */
const EVERY_MS = 3_600_000;
/** What a receiver may take, in ms. */
const TIMEOUT_MS = 5_000;

/** When each key last went out, for the time that the Metrics object cannot be asked. */
const sentHere = new Map<string, number>();

/** Sends an alert to every receiver, unless one of its key went out within the hour. Never throws. */
export async function sendAlert(
  env: Env,
  alert: Alert,
  config: Config = requireConfig(env),
): Promise<void> {
  if (config.alertWebhooks.length === 0) return;
  const heldBack = await claim(env, alert.key);
  if (heldBack === null) return;
  const source = config.publicUrl?.host ?? "localhost";
  const about = { source, at: new Date().toISOString(), heldBack };
  const sent = await Promise.all(
    config.alertWebhooks.map((webhook, at) =>
      deliver(config, webhook, at, messageFor(webhook, alert, about)),
    ),
  );
  // Nobody was told: the next one is tried at once.
  if (!sent.includes(true)) await release(env, alert.key);
}

async function deliver(
  config: Config,
  webhook: Webhook,
  at: number,
  { url, body }: { url: string; body: string },
): Promise<boolean> {
  try {
    const response = await guardedFetch(config.allowPrivateUpstreams)(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    await response.body?.cancel();
    if (response.ok) return true;
    logEvent("error", "alert_refused", { kind: webhook.kind, at, status: response.status });
  } catch (error) {
    // The name alone: a message may hold the URL, and the URL is the credential.
    logEvent("error", "alert_not_sent", {
      kind: webhook.kind,
      at,
      error: error instanceof Error ? error.name : "unknown",
    });
  }
  return false;
}

async function claim(env: Env, key: string): Promise<number | null> {
  try {
    return await metricsStub(env).claimAlert(key, EVERY_MS);
  } catch {
    // An alert twice is better than none.
    const now = Date.now();
    if (now - (sentHere.get(key) ?? Number.NEGATIVE_INFINITY) < EVERY_MS) return null;
    sentHere.set(key, now);
    return 0;
  }
}

async function release(env: Env, key: string): Promise<void> {
  sentHere.delete(key);
  try {
    await metricsStub(env).releaseAlert(key);
  } catch (error) {
    logEvent("warn", "alert_not_released", { error: String(error) });
  }
}
