/**
 * @module
 * Where alerts go, and in which words each kind of receiver wants them. Pure.
 */
import * as z from "zod";

/** Receivers of a deployment: each alert is sent to all of them. */
const MAX_WEBHOOKS = 10;
/** Characters of an alert's summary, and of each detail. */
const MAX_TEXT = 500;

const url = z.url({ protocol: /^https?$/ });

export const webhooksSchema = z
  .array(
    z.discriminatedUnion("kind", [
      z.strictObject({ kind: z.literal("slack"), url }),
      z.strictObject({ kind: z.literal("json"), url }),
      z.strictObject({ kind: z.literal("pagerduty"), routing_key: z.string().min(1).max(128) }),
    ]),
  )
  .max(MAX_WEBHOOKS);

export type Webhook = z.infer<typeof webhooksSchema>[number];

export const alertSchema = z
  .strictObject({
    /** Of a closed list: alerts with one key are one, and go out once in a while. */
    key: z.string(),
    severity: z.enum(["warning", "critical"]),
    summary: z.string(),
    details: z.record(z.string(), z.union([z.string(), z.number()])).readonly(),
  })
  .readonly();

export type Alert = z.infer<typeof alertSchema>;

const PAGERDUTY_URL = "https://events.pagerduty.com/v2/enqueue";

export type Message = { readonly url: string; readonly body: string };

/**
 * The one request that tells a receiver of an alert.
 *
 * @param source which deployment it is about
 * @param heldBack how many alerts of its key were not sent since the last one
 */
export function messageFor(
  webhook: Webhook,
  alert: Alert,
  { source, at, heldBack }: { source: string; at: string; heldBack: number },
): Message {
  const summary = cut(alert.summary);
  const details = Object.fromEntries(
    Object.entries(alert.details).map(([name, value]) => [
      name,
      typeof value === "string" ? cut(value) : value,
    ]),
  );
  const { key, severity } = alert;
  switch (webhook.kind) {
    case "slack":
      return {
        url: webhook.url,
        body: JSON.stringify({ text: slackText(alert, source, heldBack) }),
      };
    case "pagerduty":
      return {
        url: PAGERDUTY_URL,
        body: JSON.stringify({
          routing_key: webhook.routing_key,
          event_action: "trigger",
          dedup_key: `atlas-gate/${source}/${key}`,
          payload: {
            summary: `Atlas Gate: ${summary}`,
            source,
            severity,
            timestamp: at,
            component: "atlas-gate",
            class: key,
            custom_details: { ...details, held_back: heldBack },
          },
        }),
      };
    case "json":
      return {
        url: webhook.url,
        body: JSON.stringify({ key, severity, summary, source, at, held_back: heldBack, details }),
      };
  }
}

function slackText(alert: Alert, source: string, heldBack: number): string {
  const details = Object.entries(alert.details).map(
    ([name, value]) => `• ${slackEscaped(name)}: ${slackEscaped(cut(String(value)))}`,
  );
  const more = heldBack === 0 ? [] : [`(${heldBack} more since the last message)`];
  const head = `*${alert.severity}* ${slackEscaped(source)}: ${slackEscaped(cut(alert.summary))}`;
  return [head, ...details, ...more].join("\n");
}

/** Slack's own markup: a name in a message must not become a mention or a link. */
function slackEscaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function cut(text: string): string {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
}
