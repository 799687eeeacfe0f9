import { env, exports } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { D1Archive } from "../../src/archive/d1.ts";
import { metricsStub } from "../../src/objects.ts";
import { LABEL_VALUES, NONE, OTHER } from "../../src/ops/metrics/labels.ts";
import { builtInToolNames } from "../../src/tools/index.ts";
import { admin, BASE, Client, executor, mintKey, newRoot, postMcp } from "../support/gateway.ts";
import {
  advance,
  captureLogs,
  FLUSH_INTERVAL,
  inSession,
  ring,
  session,
  storedRecords,
  useStoppedClock,
} from "../support/objects.ts";
import { sessionRow } from "../support/sinks.ts";

useStoppedClock();
captureLogs();

type Counted = Record<string, number>;

async function exact(metric: string): Promise<Counted> {
  const { results } = await env.ARCHIVE_DB.prepare(
    "SELECT labels, value FROM metric_counts WHERE metric = ?",
  )
    .bind(metric)
    .all<{ labels: string; value: number }>();
  return Object.fromEntries(results.map(({ labels, value }) => [labels, value]));
}

/** The same from the archive itself: what the counts must equal. */
async function held(where: string, ...names: string[]): Promise<Counted> {
  const labels = names.map((name) => `'${name}', ${name}`).join(", ");
  const { results } = await env.ARCHIVE_DB.prepare(
    `SELECT json_object(${labels}) AS labels, count(*) AS value FROM audit_log ${where} GROUP BY 1`,
  ).all<{ labels: string; value: number }>();
  return Object.fromEntries(results.map(({ labels, value }) => [labels, value]));
}

describe("exact counts", () => {
  test("equal what the archive holds, also after flushes that were repeated", async () => {
    const { client } = await executor(newRoot());
    await client.must("write_file", { path: "src/a", content: "a" });
    await client.call("write_file", { path: "outside", content: "a" });
    await client.call("no_such_tool_1");
    await client.call("no_such_tool_2");
    advance(FLUSH_INTERVAL);
    await ring(session(client.id));
    const records = await storedRecords(client.id);
    const row = await sessionRow(client.id);
    expect(records.length).toBeGreaterThan(5);
    // The answer was lost: the same again, and once more as one flush with a record more.
    for (let again = 0; again < 3; again++) {
      await new D1Archive(env.ARCHIVE_DB).write(rowOf(row), records, ["write_file"]);
    }
    expect(await exact("mcp_audit_entries_total")).toEqual(await held("", "role", "result"));
    const calls = await exact("mcp_tool_calls_total");
    const total = Object.values(calls).reduce((sum, value) => sum + value, 0);
    const rows = await held("WHERE event IN ('tool_call', 'tool_result')", "role");
    expect(total).toBe(Object.values(rows).reduce((sum, value) => sum + value, 0));
    expect(calls['{"role":"windsurf","tool":"other","result":"error"}']).toBe(2);
    expect(calls['{"role":"windsurf","tool":"write_file","result":"ok"}']).toBe(1);
    expect(JSON.stringify(calls)).not.toContain("no_such_tool");
  });

  test("of live sessions go up with one that opens and down with one that ends, once each", async () => {
    const live = async () => (await exact("mcp_session_active"))['{"era":"2025"}'] ?? 0;
    const client = await Client.open(await mintKey("windsurf"));
    const before = await live();
    await ring(session(client.id));
    await ring(session(client.id));
    expect(await live()).toBe(before + 1);
    await client.end();
    await ring(session(client.id));
    expect(await live()).toBe(before);
  });
});

function rowOf(row: unknown) {
  return z
    .object({
      session_id: z.string(),
      tenant: z.string(),
      principal: z.string(),
      role: z.string(),
      era: z.string(),
      workspace_root: z.string().nullable(),
      plan_hash: z.string().nullable(),
      created_at: z.string(),
      last_seen_at: z.string(),
      entries: z.number(),
      head: z.string().nullable(),
      ended_at: z.string().nullable(),
      wrapped_key: z.string(),
    })
    .parse(row);
}

describe("the Metrics object", () => {
  test("adds each push of an isolate once, whatever is repeated", async () => {
    const stub = metricsStub(env);
    const sample = { metric: "mcp_alarms_total", labels: '{"alarm":"test"}', value: 2 };
    await stub.push("isolate", 1, [sample]);
    await stub.push("isolate", 1, [sample]);
    await stub.push("isolate", 2, [sample]);
    await stub.push("another", 1, [sample]);
    const { counts } = await stub.snapshot();
    expect(counts.find(({ metric }) => metric === "mcp_alarms_total")?.value).toBe(6);
  });

  test("knows since when the oldest flush of a sink is overdue", async () => {
    const stub = metricsStub(env);
    const now = Date.now();
    await stub.noteFlush("segments", "one", now - 5_000);
    await stub.noteFlush("segments", "two", now - 9_000);
    await stub.noteFlush("segments", "two", now);
    const stalled = async () =>
      (await stub.snapshot()).stalled.find(({ sink }) => sink === "segments");
    expect(await stalled()).toMatchObject({ since: now - 9_000, sessions: 2 });
    await stub.noteFlush("segments", "two", null);
    expect(await stalled()).toMatchObject({ since: now - 5_000, sessions: 1 });
    await stub.noteFlush("segments", "one", null);
    expect(await stalled()).toBeUndefined();
  });

  test("lets an alert out once in a while, and says how many it held back", async () => {
    const stub = metricsStub(env);
    expect(await stub.claimAlert("a", 60_000)).toBe(0);
    expect(await stub.claimAlert("a", 60_000)).toBeNull();
    expect(await stub.claimAlert("a", 60_000)).toBeNull();
    expect(await stub.claimAlert("b", 60_000)).toBe(0);
    await expect(stub.claimAlert("a", 0)).resolves.toBe(2);
  });
});

describe("GET /metrics", () => {
  test("is for an operator; an agent's key is refused, and so is nobody's", async () => {
    const agent = await mintKey("windsurf");
    const get = (key: string) =>
      exports.default.fetch(`${BASE}/metrics`, { headers: { "x-api-key": key } });
    expect((await get(agent.key)).status).toBe(403);
    expect((await exports.default.fetch(`${BASE}/metrics`)).status).toBe(401);
    const operator = await mintKey("operator");
    const answer = await get(operator.key);
    expect(answer.status).toBe(200);
    expect(answer.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    const text = await answer.text();
    expect(text).toMatch(/^mcp_audit_entries_total\{role="windsurf",result="ok"\} \d+$/m);
    expect(text).toMatch(/^mcp_uptime_seconds \d/m);
    expect(text).toMatch(/^mcp_flush_lag_seconds\{sink="archive"\} 0$/m);
    expect(text).not.toContain(agent.key);
  });

  test("what has not happened yet is 0, so that the first time is a rise", async () => {
    const text = await scraped();
    expect(text).toMatch(/^mcp_alarms_total\{alarm="archive_conflict"\} 0$/m);
    for (const sink of ["archive", "segments", "log"]) {
      expect(text).toMatch(new RegExp(`^mcp_flush_failures_total\\{sink="${sink}"\\} 0$`, "m"));
    }
  });

  test("shows the rest while the archive does not answer", async () => {
    await env.ARCHIVE_DB.exec("ALTER TABLE metric_counts RENAME TO away");
    const text = await scraped();
    await env.ARCHIVE_DB.exec("ALTER TABLE away RENAME TO metric_counts");
    expect(text).toMatch(/^mcp_scrape_source_up\{source="archive"\} 0$/m);
    expect(text).toMatch(/^mcp_scrape_source_up\{source="isolates"\} 1$/m);
    expect(text).toMatch(/^mcp_requests_total\{/m);
    expect(text).not.toMatch(/^mcp_audit_entries_total\{/m);
  });

  test("is no place for ADMIN_TOKEN, which only bootstraps", async () => {
    const answer = await exports.default.fetch(`${BASE}/metrics`, {
      headers: { authorization: `Bearer ${env.ADMIN_TOKEN}` },
    });
    expect(answer.status).toBe(403);
  });

  test("has no label that a caller chose, whatever was sent", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    for (const name of ["nobody_has_this", "__proto__", 'a"b\n', "x".repeat(1_000)]) {
      await client.call(name);
      await client.rpc(name);
      await postMcp(name.replaceAll(/\W/g, "-"), null, { jsonrpc: "2.0", id: 1, method: name });
      await exports.default.fetch(`${BASE}/mcp`, { method: "PROPFIND" });
    }
    await ring(session(client.id));
    const known = new Set([...builtInToolNames(), OTHER]);
    const all = async () =>
      [...(await scraped()).matchAll(/^(\w+)\{(.*)\} \S+$/gm)].flatMap(
        ([, metric = "", labels = ""]) =>
          [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, label = "", value = ""]) => ({
            metric,
            label,
            value,
          })),
      );
    // Counts of isolates come behind the answers.
    await expect
      .poll(all, { timeout: 10_000 })
      .toContainEqual({ metric: "mcp_requests_total", label: "method", value: OTHER });
    for (const { metric, label, value } of await all()) {
      if (label === "le" || [NONE, OTHER].includes(value)) continue;
      // What the file's first tests push of their own.
      if (metric === "mcp_alarms_total") continue;
      const values = Reflect.get(LABEL_VALUES, label);
      const isNamed = label === "tool" ? known.has(value) : values.has(value);
      expect(isNamed, `${metric} ${label} ${value}`).toBe(true);
    }
  });

  test("a flush that fails shows, until one goes well", async () => {
    const client = await Client.open(await mintKey("windsurf"));
    await env.ARCHIVE_DB.exec("ALTER TABLE audit_log RENAME TO away");
    await ring(session(client.id));
    await env.ARCHIVE_DB.exec("ALTER TABLE away RENAME TO audit_log");
    advance(60_000);
    const lag = async () =>
      Number(/^mcp_flush_lag_seconds\{sink="archive"\} (\S+)$/m.exec(await scraped())?.[1]);
    expect(await lag()).toBeGreaterThanOrEqual(60);
    await inSession(client.id, () => {});
    await ring(session(client.id));
    await expect.poll(lag).toBe(0);
  });
});

async function scraped(): Promise<string> {
  const operator = await mintKey("operator");
  const answer = await exports.default.fetch(`${BASE}/metrics`, {
    headers: { "x-api-key": operator.key },
  });
  return answer.text();
}

describe("the connection log", () => {
  test("has a refused request with where it came from and why, and a new session", async () => {
    await exports.default.fetch(`${BASE}/mcp`, {
      method: "POST",
      headers: {
        authorization: "Bearer nonsense",
        "cf-connecting-ip": "203.0.113.9",
        "user-agent": "a scanner",
      },
      body: "{}",
    });
    const client = await Client.open(await mintKey("windsurf"));
    const list = async (query: string) =>
      z
        .object({ connections: z.array(z.looseObject({ reason: z.string() })) })
        .parse((await admin("GET", `/connections?${query}`)).body).connections;
    await expect
      .poll(() => list("outcome=refused"), { timeout: 10_000 })
      .toContainEqual(
        expect.objectContaining({
          reason: "UNAUTHENTICATED",
          status: 401,
          address: "203.0.113.9",
          user_agent: "a scanner",
          principal: null,
          count: 1,
        }),
      );
    const mine = `principal=${encodeURIComponent(client.key.principal)}`;
    await expect
      .poll(async () => (await list(mine)).map(({ reason }) => reason), { timeout: 10_000 })
      .toEqual(["initialize"]);
  });

  test("pages by its cursor and refuses a parameter that it does not know", async () => {
    const page = z.object({
      connections: z.array(z.unknown()),
      next_cursor: z.string().nullable(),
    });
    const first = page.parse((await admin("GET", "/connections?limit=1")).body);
    expect(first.connections).toHaveLength(1);
    const next = page.parse(
      (await admin("GET", `/connections?limit=1&cursor=${first.next_cursor}`)).body,
    );
    expect(next.connections).not.toEqual(first.connections);
    expect((await admin("GET", "/connections?limit=1&colour=red")).status).toBe(400);
    expect((await admin("GET", "/connections?since=yesterday")).status).toBe(400);
  });
});
