import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "./support/eventually.ts";
import { Gateway } from "./support/gateway.ts";
import { at, send } from "./support/http.ts";
import { RawSession } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";
import { scrape as scrapeOf, sum } from "./support/scrape.ts";

const METRICS_TOKEN = "a-token-of-the-test-s-own";

let gateway: Gateway;
let operator: Operator;

beforeAll(async () => {
  gateway = await Gateway.start({ vars: { FLUSH_INTERVAL_SECONDS: "1", METRICS_TOKEN } });
  operator = new Operator(gateway.url, gateway.keys.operator);
});

afterAll(async () => {
  await gateway?.dispose();
});

const scrape = () => scrapeOf(gateway.url, METRICS_TOKEN);

/** What the archive holds, counted from the records themselves. */
async function archived(): Promise<{ entries: number; calls: number }> {
  const entries = await operator.audit("");
  const calls = entries.filter(({ event }) => event === "tool_call" || event === "tool_result");
  return { entries: entries.length, calls: calls.length };
}

/** The counts and the archive, once both stand still. */
async function bothSettled() {
  return eventually("the counts equal the archive", async () => {
    const before = await archived();
    const samples = await scrape();
    const after = await archived();
    if (before.entries !== after.entries) return null;
    const entries = sum(samples, "mcp_audit_entries_total");
    const calls = sum(samples, "mcp_tool_calls_total");
    return entries === after.entries && calls === after.calls ? samples : null;
  });
}

describe("the metrics", () => {
  it("add up to what the archive holds, also after the gateway was killed in the middle of work", async () => {
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    for (let n = 0; n < 20; n++) await session.call("read_audit_log", { limit: 1 });
    for (let n = 0; n < 5; n++) {
      await session.request("tools/call", { name: `nobody_has_this_${n}`, arguments: {} });
    }
    await bothSettled();
    const busy = Array.from({ length: 40 }, () => session.call("read_audit_log").catch(() => null));
    await gateway.kill();
    await Promise.all(busy);
    await gateway.restart();
    for (let n = 0; n < 5; n++) await session.call("read_audit_log", { limit: 1 });
    const samples = await bothSettled();
    expect(sum(samples, "mcp_tool_calls_total", 'tool="other"')).toBe(5);
    expect([...samples.keys()].some((name) => name.includes("nobody_has_this"))).toBe(false);
    expect(sum(samples, "mcp_session_active", 'era="2025"')).toBe(1);
  });

  it("count every request with its role, method, era and status", async () => {
    const labels = ['role="windsurf"', 'method="ping"', 'era="2025"', 'status="200"'];
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const before = sum(await scrape(), "mcp_requests_total", ...labels);
    for (let n = 0; n < 10; n++) await session.request("ping");
    await eventually("all ten are counted", async () =>
      sum(await scrape(), "mcp_requests_total", ...labels) === before + 10 ? true : null,
    );
    const samples = await scrape();
    expect(samples.get("mcp_request_duration_seconds_count")).toBe(
      sum(samples, "mcp_requests_total"),
    );
    expect(samples.get('mcp_request_duration_seconds_bucket{le="+Inf"}')).toBe(
      samples.get("mcp_request_duration_seconds_count"),
    );
  });

  it("are for METRICS_TOKEN and operators alone, and the uptime outlives a restart", async () => {
    const agent = await send(`${gateway.url}/metrics`, {
      headers: { authorization: `Bearer ${gateway.keys.windsurf}` },
    });
    expect(agent.status).toBe(403);
    expect((await send(`${gateway.url}/metrics`, {})).status).toBe(401);
    const before = (await scrape()).get("mcp_uptime_seconds") ?? 0;
    await gateway.stop();
    await gateway.restart();
    const { json } = await send(`${gateway.url}/health`, {});
    expect((await scrape()).get("mcp_uptime_seconds")).toBeGreaterThan(before);
    await eventually("health has read it too", async () => {
      const health = await send(`${gateway.url}/health`, {});
      return Number(at(health.json, "uptime")) >= Math.floor(before) ? true : null;
    });
    expect(at(json, "status")).toBe("healthy");
  });
});
