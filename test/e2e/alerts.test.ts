/**
 * Real receivers and real causes: what those on call are told, how often, and
 * that nothing else of the gateway depends on it.
 */
import { afterAll, beforeAll, expect, it } from "vitest";
import { problemsOf } from "./support/chain.ts";
import { Gateway } from "./support/gateway.ts";
import { at, send } from "./support/http.ts";
import { RawSession } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";
import { Receiver } from "./support/receiver.ts";

/** A receiver's URL is its credential. */
const SECRET = "T0NEVERSHOWTHIS";

let json: Receiver;
let slack: Receiver;
let failing: Receiver;
let elsewhere: Receiver;
let gateway: Gateway;
let operator: Operator;

beforeAll(async () => {
  json = await Receiver.start(`/hook/${SECRET}1`);
  slack = await Receiver.start(`/services/${SECRET}2`);
  failing = await Receiver.start(`/hook/${SECRET}3`);
  elsewhere = await Receiver.start(`/stolen/${SECRET}4`);
  gateway = await Gateway.start({
    vars: {
      FLUSH_INTERVAL_SECONDS: "1",
      ALLOW_PRIVATE_UPSTREAMS: "true",
      ALERT_WEBHOOKS: JSON.stringify([
        { kind: "json", url: json.url },
        { kind: "slack", url: slack.url },
        { kind: "json", url: failing.url },
      ]),
    },
  });
  operator = new Operator(gateway.url, gateway.keys.operator);
});

afterAll(async () => {
  try {
    await gateway?.dispose();
  } finally {
    await Promise.all([json, slack, failing, elsewhere].map((receiver) => receiver?.close()));
  }
});

const openSession = () => RawSession.open(gateway.url, gateway.keys.windsurf);

/** What a receiver was sent of one kind of alert. */
function of(receiver: Receiver, key: string): unknown[] {
  return receiver.bodies.filter((body) => at(body, "key") === key);
}

/** Slack's messages of the archive's alarm about a session. */
function slackOf(sessionId: string): unknown[] {
  return slack.bodies.filter((body) => String(at(body, "text")).includes(sessionId));
}

/** A row of D1 that is another than the session's, at the place of its next record. */
async function forgeNextRow(session: RawSession): Promise<void> {
  await session.call("read_audit_log", { limit: 1 });
  await operator.auditUntil(`session_id=${session.id}`, (found) => found.length === 2);
  await gateway.tampering((db) => {
    db.prepare(
      `INSERT INTO audit_log (session_id, seq, tenant, timestamp, principal, role, event, result,
         request_id, prev_hash, hash_chain, line, created_at)
       VALUES (?, 3, 'default', '', '', '', '', 'ok', '', '', ?, '{}', '')`,
    ).run(session.id, session.id);
  });
}

it("a record that was changed in D1 sounds an alarm: each receiver hears of it in its own words, once an hour", async () => {
  const session = await openSession();
  await forgeNextRow(session);
  await session.call("read_audit_log", { limit: 1 });
  const alarm = (body: unknown) => at(body, "key") === "archive_conflict";
  await json.received("the alarm", alarm);
  await slack.received("the alarm", (body) => String(at(body, "text")).includes(session.id));
  expect(of(json, "archive_conflict")).toMatchObject([
    {
      key: "archive_conflict",
      severity: "critical",
      held_back: 0,
      details: { found_by: "archive", session_id: session.id, seq: 3 },
    },
  ]);
  expect(slackOf(session.id)).toEqual([
    { text: expect.stringMatching(/^\*critical\* localhost: .*it was changed there\n/) },
  ]);
  // Found again and again within the hour, by the check, and by another session's flush.
  await operator.ok("POST", "/archive/run", { task: "check" });
  await gateway.runCron();
  const other = await openSession();
  await forgeNextRow(other);
  await other.call("read_audit_log", { limit: 1 });
  await operator.auditUntil("role=operator", (found) =>
    found.some(
      ({ context }) =>
        context?.action === "archive.alarm" &&
        context.found_by === "archive" &&
        context.session_id === other.id,
    ),
  );
  expect(of(json, "archive_conflict")).toHaveLength(1);
  expect(slackOf(session.id)).toHaveLength(1);
  expect(slackOf(other.id)).toEqual([]);
});

it("what the scheduled checks find is told by the cron trigger", async () => {
  const { id } = await operator.mintKey({ role: "auditor", expires_in_days: 5 });
  for (let runs = 0; runs < 3; runs++) await gateway.runCron();
  expect(of(json, "check expiring_key")).toMatchObject([
    { severity: "warning", details: { check: "expiring_key", subject: id, findings: 1 } },
  ]);
  expect(slackOf(id)).toHaveLength(1);
});

it("a receiver that refuses, hangs or redirects elsewhere gets it later, and nothing waits for it", async () => {
  // It has taken what there was so far.
  const before = failing.bodies.length;
  failing.answering = "hang";
  const session = await openSession();
  await session.call("read_audit_log", { limit: 1 });
  await operator.auditUntil(`session_id=${session.id}`, (found) => found.length === 2);
  await gateway.tampering((db) => {
    // Nobody was seen on it for a year, and its alarm, for all that D1 knows, is lost.
    db.prepare(
      "UPDATE sessions SET last_seen_at = '2020-01-01T00:00:00.000Z' WHERE session_id = ?",
    ).run(session.id);
  });
  const cron = gateway.runCron();
  await failing.received("the finding", (body) => at(body, "details.subject") === session.id);
  expect((await session.call("read_audit_log", { limit: 1 })).code).toBeNull();
  // It was answered while the receiver kept the cron trigger waiting.
  expect(failing.unanswered).toBe(1);
  await cron;
  expect(of(json, "check lost_alarm")).toHaveLength(1);

  // A redirect elsewhere, and then a refusal: nothing is sent there, and the alert is kept.
  failing.answering = { redirect: elsewhere.url };
  await gateway.runCron();
  failing.answering = 500;
  await gateway.runCron();
  failing.answering = 200;
  await gateway.runCron();
  await gateway.runCron();
  expect(elsewhere.bodies).toEqual([]);
  const told = failing.bodies.slice(before);
  expect(told.map((body) => at(body, "key"))).toEqual(Array(4).fill("check lost_alarm"));
  expect(of(json, "check lost_alarm")).toHaveLength(1);
  expect(slackOf(session.id)).toHaveLength(1);

  const text = await operator.export(session.id);
  expect(problemsOf(text, { tenant: "default", id: session.id })).toEqual([]);
  expect(text.trimEnd().split("\n")).toHaveLength(3);
});

it("neither the log nor the evidence shows where alerts go", async () => {
  const { output } = gateway.command;
  expect(output).toContain('"event":"alert_not_sent"');
  expect(output).toContain('"event":"alert_refused"');
  expect(output).not.toContain(SECRET);
  const records = await operator.audit("role=operator");
  expect(records.length).toBeGreaterThan(0);
  expect(JSON.stringify(records)).not.toContain(SECRET);
  const { text } = await send(`${gateway.url}/health/ready`, {});
  expect(text).toContain('"status":"ready"');
  expect(text).not.toContain(SECRET);
});
