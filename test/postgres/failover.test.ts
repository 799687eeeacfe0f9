/**
 * The failover of docs/archive.md, rehearsed: the primary is lost under load,
 * the standby is promoted, Hyperdrive is repointed.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../e2e/support/eventually.ts";
import { Gateway } from "../e2e/support/gateway.ts";
import { send } from "../e2e/support/http.ts";
import { requireSums } from "./support/archive-sums.ts";
import { PostgresProxy } from "./support/proxy.ts";
import { PASSWORD, query, startServer, type TestServer } from "./support/server.ts";
import { type Standby, startStandby } from "./support/standby.ts";
import { Workload } from "./support/workload.ts";

let primary: TestServer;
let standby: Standby;
let proxy: PostgresProxy;
let gateway: Gateway;

beforeAll(async () => {
  primary = await startServer();
  standby = await startStandby(primary, PASSWORD);
  proxy = await PostgresProxy.start(primary.port);
  gateway = await Gateway.start({
    vars: { FLUSH_INTERVAL_SECONDS: "1" },
    flags: ["--postgres-url", proxy.through(primary.gatewayUrl)],
  });
});
afterAll(async () => {
  await gateway?.dispose();
  await proxy?.close();
  await requireSums(standby.server.url()).finally(() => standby.server.kill());
  await primary?.dispose("it was killed, and its standby was asked instead");
});

test("nothing is lost when the primary dies and the standby takes over", async () => {
  const load = await Workload.open(gateway, 3);
  load.start();
  await load.answered(200);
  await primary.server.kill();
  await load.answered(100);

  const url = standby.server.url();
  // A standby takes no writes, and readiness does not take it for a primary that does.
  const [before] = await query<{ standby: boolean }>(url, "SELECT pg_is_in_recovery() AS standby");
  expect(before).toEqual({ standby: true });
  proxy.repoint(standby.port);
  await load.answered(100);
  const { json } = await send(`${gateway.url}/health/ready`, { method: "GET" });
  expect(json).toMatchObject({
    status: "unready",
    checks: { archive: { ok: false, message: expect.stringContaining("read-only") } },
  });

  await query(url, "SELECT pg_promote()");
  await eventually("the gateway is ready again", async () => {
    const { status } = await send(`${gateway.url}/health/ready`, { method: "GET" });
    return status === 200 ? true : null;
  });
  await load.answered(100);
  await load.stop();
  expect(await load.problems(gateway, url)).toEqual([]);
});
