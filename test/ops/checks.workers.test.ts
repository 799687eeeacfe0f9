import { env } from "cloudflare:workers";
import { afterEach, describe, expect, test, vi } from "vitest";
import { sha256Hex } from "../../src/audit/hash-node.ts";
import { requireConfig } from "../../src/config.ts";
import { SYSTEM_PRINCIPAL } from "../../src/edge/principal.ts";
import { metricsStub } from "../../src/objects.ts";
import { sendAlert } from "../../src/ops/alerts/send.ts";
import { runChecks } from "../../src/ops/checks/run.ts";
import { CONNECTIONS_KEPT_MS } from "../../src/ops/connections/log.ts";
import { readiness } from "../../src/ops/health.ts";
import { scrape } from "../../src/ops/metrics/scrape.ts";
import { runScheduled } from "../../src/ops/scheduled.ts";
import { ambientSessionId } from "../../src/session/ids.ts";
import { Client, mintKey, recordsOf, verified } from "../support/gateway.ts";
import { answerInstead } from "../support/network.ts";
import {
  advance,
  alarmOf,
  captureLogs,
  DAY,
  evict,
  HOUR,
  inSession,
  MINUTE,
  ring,
  SESSION_TTL,
  session,
  useStoppedClock,
} from "../support/objects.ts";

useStoppedClock();
const logs = captureLogs();

/** Takes the gateway's requests to receivers, and answers them. */
const receivers = (answer: () => Response) => answerInstead(async () => answer());

afterEach(() => {
  vi.spyOn(globalThis, "fetch").mockRestore();
});

const config = { ...requireConfig(env), alertWebhooks: [] };

function systemSession(): string {
  const owner = { tenant: SYSTEM_PRINCIPAL.tenant, principal: SYSTEM_PRINCIPAL.id };
  return ambientSessionId(sha256Hex, owner, Date.now());
}

async function findings(check: string): Promise<(number | undefined)[]> {
  const { gauges } = await metricsStub(env).snapshot();
  return gauges.filter(({ labels }) => labels.includes(`"${check}"`)).map(({ value }) => value);
}

describe("a session whose alarm was lost", () => {
  test("is found, woken and recorded, and then ends by itself", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    await ring(session(client.id));
    await inSession(client.id, (_sql, state) => state.storage.deleteAlarm());
    advance(SESSION_TTL + 20 * MINUTE);
    // A new life: the one that was there would know of an alarm that it has set.
    await inSession(client.id, (_sql, state) => state.abort("evicted")).catch(() => {});
    await runChecks(env, config, Date.now());
    expect(await findings("lost_alarm")).toEqual([1]);
    expect(await alarmOf(session(client.id))).not.toBeNull();
    const record = (await recordsOf(systemSession())).find(
      ({ context }) => context?.subject === client.id,
    );
    expect(record).toMatchObject({
      event: "admin",
      principal: "system:gateway",
      result: "error",
      context: { action: "check.lost_alarm", severity: "warning" },
    });
    expect((await verified(systemSession())).verdicts.integrity.ok).toBe(true);
    // Found again within the day, it is shown and logged again, and recorded no more.
    const before = (await recordsOf(systemSession())).length;
    await runChecks(env, config, Date.now());
    expect((await recordsOf(systemSession())).length).toBe(before);
    await ring(session(client.id));
    await ring(session(client.id));
    await runChecks(env, config, Date.now());
    expect(await findings("lost_alarm")).toEqual([0]);
  });
});

test("a flush of which nobody heard that it went well is found no more", async () => {
  const client = await Client.open(await mintKey("windsurf"));
  await ring(session(client.id));
  for (const id of [client.id, crypto.randomUUID()]) {
    await metricsStub(env).noteFlush("archive", id, Date.now() - 6 * MINUTE);
  }
  await runChecks(env, config, Date.now());
  expect(await findings("stalled_flush")).toEqual([0]);
  expect((await metricsStub(env).snapshot()).stalled).toEqual([]);
});

test("a check that cannot look is a finding of its own, and keeps no other from looking", async () => {
  await env.ARCHIVE_DB.exec("ALTER TABLE api_keys RENAME TO away");
  await runChecks(env, config, Date.now());
  await env.ARCHIVE_DB.exec("ALTER TABLE away RENAME TO api_keys");
  expect(await findings("expiring_key")).toEqual([1]);
  expect(await findings("lost_alarm")).toEqual([0]);
  expect(logs.some((line) => line.includes('"event":"check_failed"'))).toBe(true);
  expect(await recordsOf(systemSession())).toContainEqual(
    expect.objectContaining({
      context: { action: "check.expiring_key", subject: "itself", severity: "warning" },
    }),
  );
});

test("a key that ends soon shows in readiness, which it does not take away", async () => {
  await mintKey("antigravity", { expires_in_days: 3 });
  const { checks, status } = await readiness(env);
  expect(status).toBe("ready");
  expect(checks.keys).toMatchObject({ ok: false, required: false, expires_in: 3 * 86_400 });
  expect(checks.keys?.message).toContain("a key of antigravity ends at");
});

test("a key that ends within a week is found, unless it has a successor", async () => {
  const key = await mintKey("auditor", { expires_in_days: 5 });
  await runChecks(env, config, Date.now());
  const found = (await recordsOf(systemSession())).filter(
    ({ context }) => context?.action === "check.expiring_key",
  );
  expect(found.map(({ context }) => context?.subject)).toContain(key.id);
  expect(await scrape(env, Date.now())).toMatch(
    /^mcp_key_expires_in_seconds\{role="auditor"\} 432000$/m,
  );
  const standing = await findings("expiring_key");
  await env.ARCHIVE_DB.prepare(
    `INSERT INTO api_keys (id, digest, name, role, tenant, line, created_at, expires_at)
     SELECT 'successor0000000', 'd', name, role, tenant, line, created_at, '2101-01-01T00:00:00.000Z'
     FROM api_keys WHERE id = ?`,
  )
    .bind(key.id)
    .run();
  await runChecks(env, config, Date.now());
  expect(await findings("expiring_key")).toEqual(standing.map((n) => (n ?? 0) - 1));
});

test("connections that were kept long enough are deleted", async () => {
  const insert = (id: string, at: number) =>
    env.ARCHIVE_DB.prepare(
      `INSERT INTO connections (id, at, outcome, reason, status, request_id, count)
       VALUES (?, ?, 'refused', 'FORBIDDEN', 403, 'r', 1)`,
    ).bind(id, new Date(at).toISOString());
  const now = Date.now();
  await env.ARCHIVE_DB.batch([
    insert("old", now - CONNECTIONS_KEPT_MS - 1),
    insert("new", now - CONNECTIONS_KEPT_MS + DAY),
  ]);
  await runScheduled(env, config, now);
  const { results } = await env.ARCHIVE_DB.prepare(
    "SELECT id FROM connections WHERE id IN ('old', 'new')",
  ).all();
  expect(results).toEqual([{ id: "new" }]);
});

describe("an alert", () => {
  const alerting = {
    ...config,
    alertWebhooks: [{ kind: "json" as const, url: "https://alerts.example.com/hook" }],
  };
  const alert = (key: string) => ({
    key,
    severity: "critical" as const,
    summary: "it happened",
    details: {},
  });

  test("goes out once an hour for each key, and says how many were held back", async () => {
    const sent = receivers(() => new Response());
    for (let n = 0; n < 3; n++) await sendAlert(env, alert("one"), alerting);
    await sendAlert(env, alert("two"), alerting);
    expect(sent).toHaveBeenCalledTimes(2);
    advance(HOUR);
    await sendAlert(env, alert("one"), alerting);
    expect(String(sent.mock.calls[2]?.[1]?.body)).toContain('"held_back":2');
  });

  test("that reached nobody is tried again with the next", async () => {
    const sent = receivers(() => new Response(null, { status: 500 }));
    await sendAlert(env, alert("three"), alerting);
    await sendAlert(env, alert("three"), alerting);
    expect(sent).toHaveBeenCalledTimes(2);
  });

  test("that one receiver did not take goes to that one again, when the cron trigger comes", async () => {
    const both = {
      ...config,
      alertWebhooks: [
        { kind: "json" as const, url: "https://up.example.com/hook" },
        { kind: "json" as const, url: "https://down.example.com/hook" },
      ],
    };
    let isDown = true;
    const told: string[] = [];
    vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
      const host = new URL(String(input)).hostname.split(".")[0] ?? "";
      const { key, held_back } = JSON.parse(String(init?.body));
      if (key !== "five") return new Response();
      told.push(`${host} ${held_back}`);
      return new Response(null, { status: host === "down" && isDown ? 500 : 200 });
    });
    await sendAlert(env, alert("five"), both);
    await sendAlert(env, alert("five"), both);
    expect(told).toEqual(["up 0", "down 0", "down 0"]);
    // Another life of the object, and it is down still.
    await evict(metricsStub(env));
    const cron = () => {
      advance(MINUTE);
      return runScheduled(env, both, Date.now());
    };
    await cron();
    isDown = false;
    await cron();
    await cron();
    expect(told).toEqual(["up 0", "down 0", "down 0", "down 0", "down 0"]);
    advance(HOUR);
    await sendAlert(env, alert("five"), both);
    expect(told.slice(5)).toEqual(["up 1", "down 0"]);
  });

  test("that could not be sent keeps the number of those that were held back", async () => {
    let status = 200;
    const sent = receivers(() => new Response(null, { status }));
    for (let n = 0; n < 3; n++) await sendAlert(env, alert("six"), alerting);
    status = 500;
    advance(HOUR);
    await sendAlert(env, alert("six"), alerting);
    status = 200;
    await sendAlert(env, alert("six"), alerting);
    expect(sent.mock.calls.map(([, init]) => JSON.parse(String(init?.body)).held_back)).toEqual([
      0, 2, 2,
    ]);
  });

  test("goes to no private address, and the log does not show where", async () => {
    const sent = receivers(() => new Response());
    const url = "http://169.254.169.254/secret-path";
    await sendAlert(env, alert("four"), { ...alerting, alertWebhooks: [{ kind: "json", url }] });
    expect(sent).not.toHaveBeenCalled();
    expect(logs.some((line) => line.includes("alert_not_sent"))).toBe(true);
    expect(logs.some((line) => line.includes("secret-path"))).toBe(false);
  });
});
