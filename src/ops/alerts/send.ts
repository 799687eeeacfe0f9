/**
 * @module
 * Tells the receivers of `ALERT_WEBHOOKS`: each once an hour for each kind of
 * alert, only at addresses that upstreams could have too, and never so that
 * anything fails by it. What a receiver did not take is kept, one alert a kind,
 * and the cron trigger tries it again.
 *
 * Trade-off: a claim comes before the sending, so that two isolates do not send
 * one alert twice; an isolate that is lost in between loses it until the hour is over.
 */
import { type Config, requireConfig } from "../../config.ts";
import { metricsStub } from "../../objects.ts";
import { guardedFetch } from "../../upstream/address.ts";
import { logEvent } from "../log.ts";
import { type Alert, alertSchema, messageFor, type Webhook } from "./webhooks.ts";

/** Pause between two alerts of one key, in ms. */
const EVERY_MS = 3_600_000;
/** What a receiver may take, in ms. */
const TIMEOUT_MS = 5_000;

/** When each receiver was last told of each key, for the time that the Metrics object cannot be asked. */
const sentHere = new Map<string, number>();

/** Sends an alert to every receiver, unless it was told of one of its key within the hour. Never throws. */
export async function sendAlert(
  env: Env,
  alert: Alert,
  config: Config = requireConfig(env),
): Promise<void> {
  await Promise.all(
    config.alertWebhooks.map((webhook, receiver) => sendTo(env, config, webhook, receiver, alert)),
  );
}

/** Tries again what receivers did not take before a time, Unix ms. */
export async function sendUnsent(env: Env, config: Config, before: number): Promise<void> {
  for (const { receiver, alert } of await metricsStub(env).unsentAlerts(before)) {
    const webhook = config.alertWebhooks[receiver];
    const read = alertSchema.safeParse(JSON.parse(alert));
    if (webhook !== undefined && read.success) {
      await sendTo(env, config, webhook, receiver, read.data);
    }
  }
}

async function sendTo(
  env: Env,
  config: Config,
  webhook: Webhook,
  receiver: number,
  alert: Alert,
): Promise<void> {
  const heldBack = await claim(env, alert.key, receiver);
  if (heldBack === null) return;
  const source = config.publicUrl?.host ?? "localhost";
  const about = { source, at: new Date().toISOString(), heldBack };
  const sent = await deliver(config, webhook, receiver, messageFor(webhook, alert, about));
  if (!sent) await keep(env, alert, receiver, heldBack);
}

async function deliver(
  config: Config,
  webhook: Webhook,
  receiver: number,
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
    logEvent("error", "alert_refused", { kind: webhook.kind, receiver, status: response.status });
  } catch (error) {
    // The name alone: a message may hold the URL, and the URL is the credential.
    logEvent("error", "alert_not_sent", {
      kind: webhook.kind,
      receiver,
      error: error instanceof Error ? error.name : "unknown",
    });
  }
  return false;
}

/** Null when the receiver was told within the hour; else how many alerts were held back since. */
async function claim(env: Env, key: string, receiver: number): Promise<number | null> {
  try {
    return await metricsStub(env).claimAlert(claimOf(key, receiver), EVERY_MS);
  } catch {
    // An alert twice is better than none.
    const now = Date.now();
    const last = sentHere.get(claimOf(key, receiver)) ?? Number.NEGATIVE_INFINITY;
    if (now - last < EVERY_MS) return null;
    sentHere.set(claimOf(key, receiver), now);
    return 0;
  }
}

/** Nobody was told: the next one goes out at once, and this one when the cron trigger comes. */
async function keep(env: Env, alert: Alert, receiver: number, heldBack: number): Promise<void> {
  const key = claimOf(alert.key, receiver);
  sentHere.delete(key);
  try {
    await metricsStub(env).keepUnsent(key, EVERY_MS, heldBack, {
      receiver,
      alert: JSON.stringify(alert),
    });
  } catch (error) {
    logEvent("warn", "alert_not_kept", { error: String(error) });
  }
}

function claimOf(key: string, receiver: number): string {
  return `${key} to ${receiver}`;
}
