/**
 * Connections with bad credentials, thousands at once: honest clients go on,
 * what is stored is bounded, and every number is right.
 */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as z from "zod";
import { withD1Copy } from "./support/archive-sums.ts";
import { eventually } from "./support/eventually.ts";
import { Gateway } from "./support/gateway.ts";
import { postMcp, RawSession } from "./support/mcp.ts";
import { Operator } from "./support/operator.ts";
import { type Samples, scrape, sum } from "./support/scrape.ts";

const METRICS_TOKEN = "a-token-of-the-test-s-own";
const BURST = 10_000;
/** Connections that are open at once. */
const AT_ONCE = 100;
/** Of refusals with one reason, the rows of one minute: 20 whole ones, and one for all others. */
const ROWS_A_MINUTE = 21;
const MINUTE_MS = 60_000;
/** Of D1, in bytes: the hundred records of the honest session take a third of it; rows of 10,000 would take megabytes. */
const MAX_D1_GROWTH = 512 * 1024;

let gateway: Gateway;
let operator: Operator;

beforeAll(async () => {
  gateway = await Gateway.start({ vars: { FLUSH_INTERVAL_SECONDS: "1", METRICS_TOKEN } });
  operator = new Operator(gateway.url, gateway.keys.operator);
});

afterAll(async () => {
  await gateway?.dispose();
});

const measured = () => scrape(gateway.url, METRICS_TOKEN);

/** A connection with a key that is none, each with another; answers with its status. */
async function badConnection(n: number, address?: string): Promise<number> {
  const key = `ag_${"0".repeat(16)}_${String(n).padStart(43, "x")}`;
  const headers = address === undefined ? {} : { "cf-connecting-ip": address };
  return (await postMcp(gateway.url, { n }, { key, headers })).status;
}

const page = z.object({
  connections: z.array(
    z.object({ count: z.number(), reason: z.string(), address: z.string().nullable() }),
  ),
  next_cursor: z.string().nullable(),
});
type Rows = z.infer<typeof page>["connections"];

/** The rows of the connection log of what was refused since a time. */
async function refusedSince(since: string): Promise<Rows> {
  const rows: Rows = [];
  let cursor: string | null = null;
  do {
    const more: string = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const query = `/connections?outcome=refused&since=${since}&limit=200${more}`;
    const read: z.infer<typeof page> = page.parse(await operator.ok("GET", query));
    rows.push(...read.connections);
    cursor = read.next_cursor;
  } while (cursor !== null);
  return rows;
}

function countOf(rows: Rows, reason: string): number {
  return rows.filter((row) => row.reason === reason).reduce((total, { count }) => total + count, 0);
}

/** What a metric has grown by since a scrape. */
function growth(before: Samples, after: Samples, metric: string, ...labels: string[]): number {
  return sum(after, metric, ...labels) - sum(before, metric, ...labels);
}

/** The files of objects and of R2, and the bytes of D1; of a gateway that does not run. */
async function stored(): Promise<{ files: number; d1Bytes: number }> {
  const files = await readdir(join(gateway.stateDir, "v3"), { recursive: true });
  const d1Bytes = await withD1Copy(gateway.stateDir, (db) => {
    const bytes = "SELECT page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size";
    return z.object({ bytes: z.number() }).parse(db.prepare(bytes).get()).bytes;
  });
  return { files: files.filter((name) => name.endsWith(".sqlite")).length, d1Bytes };
}

async function restarted<T>(between: () => Promise<T>): Promise<T> {
  expect(await gateway.stop()).toBe(0);
  const found = await between();
  await gateway.restart();
  return found;
}

it(`${BURST} of one address leave few rows, true counts, and honest clients alone`, async () => {
  const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
  await session.call("read_audit_log", { limit: 1 });
  await operator.auditUntil(`session_id=${session.id}`, (found) => found.length === 2);
  const storedBefore = await restarted(stored);
  const before = await measured();
  const startedAt = Date.now();

  let honest = 0;
  for (let n = 0; n < BURST; n += AT_ONCE) {
    const bad = Array.from({ length: AT_ONCE }, (_, k) => badConnection(n + k));
    // In the middle of them.
    const call = session.call("read_audit_log", { limit: 1 });
    const [{ code }, ...statuses] = await Promise.all([call, ...bad]);
    expect(code).toBeNull();
    expect(new Set(statuses)).toEqual(new Set([401]));
    honest += 1;
  }
  const since = new Date(startedAt).toISOString();
  const rows = await eventually("the connection log has all", async () => {
    const found = await refusedSince(since);
    return countOf(found, "UNAUTHENTICATED") >= BURST ? found : null;
  });
  const after = await eventually("all failures are counted", async () => {
    const samples = await measured();
    return growth(before, samples, "mcp_auth_failures_total") >= BURST ? samples : null;
  });
  const minutes = Math.floor((Date.now() - startedAt) / MINUTE_MS) + 2;

  expect(rows.reduce((total, { count }) => total + count, 0)).toBe(BURST);
  expect(countOf(rows, "UNAUTHENTICATED")).toBe(BURST);
  expect(rows.length).toBeLessThanOrEqual(minutes * ROWS_A_MINUTE);
  const failures = ["mcp_auth_failures_total", 'reason="UNAUTHENTICATED"'] as const;
  expect(growth(before, after, ...failures)).toBe(BURST);
  expect(growth(before, after, "mcp_auth_failures_total")).toBe(BURST);
  expect(growth(before, after, "mcp_requests_total", 'status="401"')).toBe(BURST);

  const entries = 2 + honest;
  await operator.auditUntil(`session_id=${session.id}`, (found) => found.length === entries);
  const storedAfter = await restarted(stored);
  // A connection that is refused makes no object: those of the session and the log were there.
  expect(storedAfter.files).toBe(storedBefore.files);
  expect(storedAfter.d1Bytes - storedBefore.d1Bytes).toBeLessThan(MAX_D1_GROWTH);
}, 300_000);

describe("of many addresses", () => {
  const FROM_EACH = 150;
  /** What one address, or one network of IPv6, may fail in a minute: `FAILURE_LIMITER` in wrangler.toml. */
  const FAILURES = 30;
  /** Each is counted for itself; those of one line are one holder, in two spellings or from one network. */
  const HOLDERS = [
    ["203.0.113.7"],
    ["198.51.100.23", "::ffff:198.51.100.23"],
    ["192.0.2.200"],
    ["2001:db8:1:2::1", "2001:DB8:1:2:ffff::9"],
    ["2001:db8:1:3::1"],
  ];
  /** As the log spells them. */
  const SPELLED = [
    "203.0.113.7",
    "198.51.100.23",
    "192.0.2.200",
    "2001:db8:1:2::1",
    "2001:db8:1:2:ffff::9",
    "2001:db8:1:3::1",
  ];

  it("401 becomes 429, each is one or the other in every count, and honest clients go on", async () => {
    // One of them comes from where the flood comes from.
    const neighbour = { "cf-connecting-ip": "203.0.113.7" };
    const session = await RawSession.open(gateway.url, gateway.keys.windsurf);
    const ping = (headers: Record<string, string>) =>
      session.post({ jsonrpc: "2.0", id: crypto.randomUUID(), method: "ping" }, headers);
    expect((await ping(neighbour)).status).toBe(200);
    const before = await measured();
    const startedAt = Date.now();
    const statuses = new Map(HOLDERS.map((addresses) => [addresses, [] as number[]]));
    for (let n = 0; n < FROM_EACH; n += 10) {
      const bad = [...statuses].flatMap(([addresses, seen]) =>
        Array.from({ length: 10 }, async (_, k) => {
          seen.push(await badConnection(n + k, addresses[k % addresses.length]));
        }),
      );
      const good = [ping(neighbour), ping({})];
      expect((await Promise.all(good)).map(({ status }) => status)).toEqual([200, 200]);
      await Promise.all(bad);
    }
    const total = HOLDERS.length * FROM_EACH;
    const all = [...statuses.values()].flat();
    const unauthenticated = all.filter((status) => status === 401).length;
    const heldOff = all.filter((status) => status === 429).length;
    expect(unauthenticated + heldOff).toBe(total);
    for (const seen of statuses.values()) {
      // Those that were under way when the limit was met are let through to their 401.
      expect(seen.filter((status) => status === 401).length).toBeGreaterThanOrEqual(FAILURES);
      expect(seen).toContain(429);
    }

    const rows = await eventually("the connection log has all", async () => {
      const found = await refusedSince(new Date(startedAt).toISOString());
      return found.reduce((sum, { count }) => sum + count, 0) >= total ? found : null;
    });
    const after = await eventually("all refusals are counted", async () => {
      const samples = await measured();
      const refused = ["401", "429"].map((status) =>
        growth(before, samples, "mcp_requests_total", `status="${status}"`),
      );
      return refused.reduce((sum, n) => sum + n, 0) >= total ? samples : null;
    });
    expect(countOf(rows, "UNAUTHENTICATED")).toBe(unauthenticated);
    expect(countOf(rows, "RATE_LIMITED")).toBe(heldOff);
    const minutes = Math.floor((Date.now() - startedAt) / MINUTE_MS) + 2;
    expect(rows.length).toBeLessThanOrEqual(minutes * 2 * ROWS_A_MINUTE);
    for (const { address } of rows) expect(SPELLED).toContain(address);
    expect(growth(before, after, "mcp_requests_total", 'status="401"')).toBe(unauthenticated);
    expect(growth(before, after, "mcp_requests_total", 'status="429"')).toBe(heldOff);
    // Being held off is no failed authentication: nothing was looked at.
    expect(growth(before, after, "mcp_auth_failures_total")).toBe(unauthenticated);
  }, 300_000);
});
