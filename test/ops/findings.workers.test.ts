/**
 * Each scheduled check with a real cause: what it finds is a gauge, a log line,
 * a record and an alert. A check without a cause here does not compile.
 */
import { env } from "cloudflare:workers";
import { afterEach, describe, expect, test, vi } from "vitest";
import { runDaily } from "../../src/archive/daily.ts";
import { sha256Hex } from "../../src/audit/hash-node.ts";
import { requireConfig } from "../../src/config.ts";
import { SYSTEM_PRINCIPAL } from "../../src/edge/principal.ts";
import { logStub, metricsStub } from "../../src/objects.ts";
import { CHECK_NAMES, type CheckName } from "../../src/ops/checks/finding.ts";
import { runChecks } from "../../src/ops/checks/run.ts";
import { ambientSessionId } from "../../src/session/ids.ts";
import { SessionObject } from "../../src/session/session-object.ts";
import { tampering } from "../support/archive-sums.ts";
import { Client, mintKey, recordsOf } from "../support/gateway.ts";
import { answerInstead } from "../support/network.ts";
import {
  advance,
  captureLogs,
  evict,
  flush,
  HOUR,
  inSession,
  MINUTE,
  ringUntilReleased,
  SESSION_TTL,
  session,
  useStoppedClock,
} from "../support/objects.ts";

useStoppedClock();
const logs = captureLogs();

const config = {
  ...requireConfig(env),
  alertWebhooks: [{ kind: "json" as const, url: "https://alerts.example.com/hook" }],
};

/** Bodies of the alerts that a receiver was sent. */
const alerts: string[] = [];
answerInstead(async (_url, init) => {
  alerts.push(String(init?.body));
  return new Response();
});

afterEach(() => {
  alerts.length = 0;
});

function systemSession(): string {
  const owner = { tenant: SYSTEM_PRINCIPAL.tenant, principal: SYSTEM_PRINCIPAL.id };
  return ambientSessionId(sha256Hex, owner, Date.now());
}

async function findings(check: CheckName): Promise<number | undefined> {
  const { gauges } = await metricsStub(env).snapshot();
  const labels = JSON.stringify({ check });
  return gauges.find((gauge) => gauge.metric === "mcp_check_findings" && gauge.labels === labels)
    ?.value;
}

async function recordedBy(check: CheckName): Promise<unknown[]> {
  const records = await recordsOf(systemSession());
  return records.flatMap(({ context }) =>
    context?.action === `check.${check}` ? [context.subject] : [],
  );
}

const linesOf = (check: CheckName, subject: string) =>
  logs.filter(
    (line) =>
      line.includes('"event":"check_finding"') &&
      line.includes(`"check":"${check}"`) &&
      line.includes(`"subject":"${subject}"`),
  );

const openSession = async () => Client.open(await mintKey("windsurf"));

/** Ends a session for good, before the clock makes it one that should have ended. */
async function release(client: Client): Promise<void> {
  expect(await client.end()).toBe(204);
  await ringUntilReleased(client.id);
}

/** Brings about what a check looks for; answers with its subject, and how it is over. */
const CAUSES: Record<CheckName, () => Promise<{ subject: string; mend: () => Promise<unknown> }>> =
  {
    stalled_flush: async () => {
      const client = await openSession();
      await env.ARCHIVE_DB.exec("ALTER TABLE audit_log RENAME TO away");
      await flush(client.id);
      await env.ARCHIVE_DB.exec("ALTER TABLE away RENAME TO audit_log");
      advance(6 * MINUTE);
      return { subject: "archive", mend: () => release(client) };
    },
    lost_alarm: async () => {
      const { id } = await openSession();
      await flush(id);
      await inSession(id, (_sql, state) => state.storage.deleteAlarm());
      await evict(session(id));
      advance(SESSION_TTL + 20 * MINUTE);
      // Looking has woken it: its alarm is set, and closes it.
      return { subject: id, mend: () => ringUntilReleased(id) };
    },
    log: async () => {
      // After whatever the log has published.
      advance(MINUTE);
      const client = await openSession();
      const { id } = client;
      // It takes its head for handed in, and the log never hears of it.
      await inSession(id, (sql) => {
        sql.exec("UPDATE sinks SET cursor = 1000 WHERE sink = 'log'");
      });
      await evict(session(id));
      await flush(id);
      advance(16 * MINUTE);
      return {
        subject: "log",
        mend: async () => {
          await inSession(id, (sql) => {
            sql.exec("UPDATE sinks SET cursor = 0 WHERE sink = 'log'");
          });
          await evict(session(id));
          await release(client);
        },
      };
    },
    expiring_key: async () => {
      const { id } = await mintKey("auditor", { expires_in_days: 5 });
      const revoke = "UPDATE api_keys SET revoked_at = ? WHERE id = ?";
      return {
        subject: id,
        mend: () =>
          env.ARCHIVE_DB.prepare(revoke).bind(new Date(Date.now()).toISOString(), id).run(),
      };
    },
  };

describe("what a check finds", () => {
  test.each(CHECK_NAMES)(
    "%s: is a gauge, a log line, a record and an alert, until it is over",
    async (check) => {
      await runChecks(env, config, Date.now());
      const before = (await findings(check)) ?? 0;
      alerts.length = 0;
      const { subject, mend } = await CAUSES[check]();
      await runChecks(env, config, Date.now());
      expect(await findings(check)).toBe(before + 1);
      expect(linesOf(check, subject)).toHaveLength(1);
      expect((await recordedBy(check)).filter((recorded) => recorded === subject)).toHaveLength(1);
      const told = alerts
        .map((body) => JSON.parse(body))
        .filter(({ key }) => key === `check ${check}`);
      expect(told).toMatchObject([{ details: { check, subject } }]);
      // It stands: shown and logged each time, recorded and told once a day.
      await runChecks(env, config, Date.now());
      expect(linesOf(check, subject)).toHaveLength(2);
      expect((await recordedBy(check)).filter((recorded) => recorded === subject)).toHaveLength(1);
      await mend();
      await runChecks(env, config, Date.now());
      expect(await findings(check)).toBe(before);
    },
  );

  test("is recorded by the next run where it could not be, and those on call hear of it all the same", async () => {
    advance(2 * HOUR);
    const { id } = await mintKey("auditor", { expires_in_days: 5 });
    const record = vi
      .spyOn(SessionObject.prototype, "record")
      .mockRejectedValue(new Error("the session does not answer"));
    await runChecks(env, config, Date.now());
    record.mockRestore();
    expect(await recordedBy("expiring_key")).not.toContain(id);
    expect(logs.some((line) => line.includes("finding_not_recorded"))).toBe(true);
    expect(alerts.join()).toContain(id);
    await runChecks(env, config, Date.now());
    expect((await recordedBy("expiring_key")).filter((subject) => subject === id)).toHaveLength(1);
  });
});

test("a session whose object does not answer is found, and hides no other", async () => {
  const lost = [await openSession(), await openSession()];
  for (const { id } of lost) {
    await flush(id);
    await inSession(id, (_sql, state) => state.storage.deleteAlarm());
    await evict(session(id));
  }
  advance(SESSION_TTL + 20 * MINUTE);
  const status = vi
    .spyOn(SessionObject.prototype, "status")
    .mockRejectedValueOnce(new Error("the object is broken"));
  await runChecks(env, config, Date.now());
  status.mockRestore();
  for (const { id } of lost) expect(await recordedBy("lost_alarm")).toContain(id);
  for (const { id } of lost) await ringUntilReleased(id);
});

test("a log that refuses to sign is found before its age is", async () => {
  const client = await openSession();
  await flush(client.id);
  const kept = await env.BUCKET.get("log/checkpoint");
  const checkpoint = (await kept?.text()) ?? "";
  await env.BUCKET.put("log/checkpoint", "no checkpoint\n");
  await evict(logStub(env));
  await runChecks(env, config, Date.now());
  expect(await findings("log")).toBe(1);
  expect(logs.findLast((line) => line.includes('"check":"log"'))).toContain("signs nothing");
  await env.BUCKET.put("log/checkpoint", checkpoint);
  await evict(logStub(env));
  await runChecks(env, config, Date.now());
  expect(await findings("log")).toBe(0);
  await release(client);
});

test("a difference between archive and segments is a count, a log line and a record", async () => {
  const client = await openSession();
  expect(await client.end()).toBe(204);
  await ringUntilReleased(client.id);
  await tampering(() =>
    env.ARCHIVE_DB.prepare(
      "UPDATE audit_log SET line = replace(line, 'session_open', 'session_opem') WHERE session_id = ?",
    )
      .bind(client.id)
      .run(),
  );
  await runDaily(env, config, Date.now());
  const counted = async () => {
    const { counts } = await metricsStub(env).snapshot();
    return counts.find(({ metric }) => metric === "mcp_alarms_total")?.value;
  };
  await expect.poll(counted, { timeout: 10_000 }).toBe(1);
  expect(
    logs.filter((line) => line.includes('"level":"alarm"') && line.includes(client.id)),
  ).toHaveLength(1);
  const records = await recordsOf(systemSession());
  expect(records.map(({ context }) => context)).toContainEqual(
    expect.objectContaining({ action: "archive.alarm", found_by: "check", session_id: client.id }),
  );
});
