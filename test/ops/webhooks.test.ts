import { expect, test } from "vitest";
import { parseConfig } from "../../src/config.ts";
import { type Alert, messageFor, webhooksSchema } from "../../src/ops/alerts/webhooks.ts";

const ALERT: Alert = {
  key: "archive_conflict",
  severity: "critical",
  summary: "the sink holds <@everyone> another record",
  details: { session_id: "s-1", seq: 4 },
};
const ABOUT = { source: "gate.example.com", at: "2027-01-01T00:00:00.000Z", heldBack: 2 };

test("Slack gets text in which nothing is a mention or a link", () => {
  const url = "https://hooks.slack.example/T/B/x";
  const message = messageFor({ kind: "slack", url }, ALERT, ABOUT);
  expect(message.url).toBe(url);
  expect(JSON.parse(message.body)).toEqual({
    text: "*critical* gate.example.com: the sink holds &lt;@everyone&gt; another record\n• session_id: s-1\n• seq: 4\n(2 more since the last message)",
  });
});

test("PagerDuty gets an event of its version 2, one incident for each key and deployment", () => {
  const message = messageFor({ kind: "pagerduty", routing_key: "r" }, ALERT, ABOUT);
  expect(message.url).toBe("https://events.pagerduty.com/v2/enqueue");
  expect(JSON.parse(message.body)).toMatchObject({
    routing_key: "r",
    event_action: "trigger",
    dedup_key: "atlas-gate/gate.example.com/archive_conflict",
    payload: { severity: "critical", source: "gate.example.com", timestamp: ABOUT.at },
  });
});

test("any other receiver gets JSON, and no text is longer than it may be", () => {
  const long = { ...ALERT, summary: "x".repeat(10_000), details: { why: "y".repeat(10_000) } };
  const { body } = messageFor({ kind: "json", url: "https://a.example" }, long, ABOUT);
  expect(JSON.parse(body)).toMatchObject({ key: "archive_conflict", held_back: 2 });
  expect(body.length).toBeLessThan(1_500);
});

test.each([
  '[{"kind":"slack"}]',
  '[{"kind":"mail","url":"https://a.example"}]',
  '[{"kind":"json","url":"file:///etc/passwd"}]',
  "not json",
])("a configuration such as %s is refused without showing what is in it", (text) => {
  const secret = (byte: number) => Buffer.alloc(32, byte).toString("base64");
  const result = parseConfig({
    ADMIN_TOKEN: secret(1),
    LOG_SIGNING_KEY: secret(2),
    SECRETS_KEY: secret(3),
    ALERT_WEBHOOKS: text,
  });
  expect(result.ok).toBe(false);
  if (!result.ok) {
    expect(result.message).toContain("ALERT_WEBHOOKS");
    expect(result.message).not.toContain("a.example");
  }
});

test("no more than ten receivers", () => {
  const one = { kind: "json", url: "https://a.example" };
  expect(webhooksSchema.safeParse(Array(10).fill(one)).success).toBe(true);
  expect(webhooksSchema.safeParse(Array(11).fill(one)).success).toBe(false);
});
