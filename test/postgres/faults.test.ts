/**
 * Real faults of a real PostgreSQL, under load. Each test ends in the same
 * audit: every acknowledged record is in the archive exactly once, and every
 * chain holds.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { POSTGRES_SCHEMA } from "../../src/archive/postgres-schema.ts";
import { eventually } from "../e2e/support/eventually.ts";
import { Gateway } from "../e2e/support/gateway.ts";
import { send } from "../e2e/support/http.ts";
import { PostgresProxy } from "./support/proxy.ts";
import { query, startServer, type TestServer } from "./support/server.ts";
import { Workload } from "./support/workload.ts";

const SESSIONS = 4;
/** Answered calls that count as load. */
const SOME = 120;

let postgres: TestServer;
let proxy: PostgresProxy;
let gateway: Gateway;
let load: Workload;

beforeAll(async () => {
  postgres = await startServer();
  proxy = await PostgresProxy.start(postgres.port);
  gateway = await Gateway.start({
    vars: { FLUSH_INTERVAL_SECONDS: "1" },
    flags: ["--postgres-url", proxy.through(postgres.gatewayUrl)],
  });
});
afterAll(async () => {
  await gateway?.dispose();
  await proxy?.close();
  await postgres?.dispose();
});

beforeEach(async () => {
  load = await Workload.open(gateway, SESSIONS);
  load.start();
  await load.answered(SOME);
});
afterEach(() => load.stop());

/** The load goes on for a while longer, ends, and is audited. */
async function expectNothingLost(): Promise<void> {
  await load.answered(SOME);
  await load.stop();
  expect(await load.problems(gateway, postgres.url)).toEqual([]);
}

async function readiness(): Promise<{ status: number; archive: unknown }> {
  const { status, json } = await send(`${gateway.url}/health/ready`, { method: "GET" });
  return { status, archive: Reflect.get(Object(Reflect.get(Object(json), "checks")), "archive") };
}

/** Has the archive's inserts do something first, until the answer is called. */
async function beforeInserts(body: string): Promise<() => Promise<void>> {
  await query(
    postgres.url,
    `CREATE SEQUENCE fault_calls;
     GRANT USAGE ON SEQUENCE fault_calls TO atlas_gateway;
     CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${body} RETURN NULL; END $$;
     CREATE TRIGGER fault AFTER INSERT ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION fault()`,
  );
  return async () => {
    await query(
      postgres.url,
      "DROP TRIGGER fault ON audit_log; DROP FUNCTION fault; DROP SEQUENCE fault_calls",
    );
  };
}

/** Waits until the fault was met a few times. */
async function metFault(times: number): Promise<void> {
  await eventually(`the fault was met ${times} times`, async () => {
    const [row] = await query<{ last_value: string; is_called: boolean }>(
      postgres.url,
      "SELECT last_value, is_called FROM fault_calls",
    );
    return row?.is_called === true && Number(row.last_value) >= times ? true : null;
  });
}

function countRecords(): Promise<{ count: string }[]> {
  return query<{ count: string }>(postgres.url, "SELECT count(*) FROM audit_log");
}

describe("every acknowledged record is in PostgreSQL once, and every chain holds,", () => {
  test("when the server is stopped for a while", async () => {
    await postgres.server.stop();
    await load.answered(SOME);
    // Longer than a few flushes and their pauses.
    await sleep(5_000);
    expect(await readiness()).toMatchObject({ status: 503, archive: { ok: false } });
    await postgres.server.start();
    await expectNothingLost();
    expect(await readiness()).toMatchObject({ status: 200, archive: { ok: true } });
  });

  test("when the server is killed in the middle of a batch", async () => {
    const mend = await beforeInserts("PERFORM nextval('fault_calls'); PERFORM pg_sleep(1);");
    for (let kills = 0; kills < 3; kills++) {
      await eventually("a batch is under way", async () => {
        const rows = await query(
          postgres.url,
          "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
        );
        return rows.length > 0 ? true : null;
      });
      await postgres.server.kill();
      await postgres.server.start();
    }
    await mend();
    await expectNothingLost();
  });

  test("when connections are cut after the commit and before the answer", async () => {
    proxy.cutAfterCommit(6);
    await eventually("all cuts are made", () => (proxy.cutsLeft === 0 ? true : null));
    await expectNothingLost();
  });

  test("when connections are refused", async () => {
    proxy.down();
    await load.answered(SOME);
    await sleep(2_500);
    proxy.up();
    await expectNothingLost();
  });

  test.for([
    ["the disk is full", "disk_full"],
    ["of deadlocks", "deadlock_detected"],
    ["transactions cannot be serialised", "serialization_failure"],
    ["there are too many connections", "too_many_connections"],
  ] as const)("when %s", async ([, condition]) => {
    const mend = await beforeInserts(
      `PERFORM nextval('fault_calls'); RAISE EXCEPTION 'a fault' USING ERRCODE = '${condition}';`,
    );
    await metFault(6);
    await load.answered(SOME);
    await mend();
    await expectNothingLost();
  });

  test("when every statement takes five seconds", async () => {
    const mend = await beforeInserts("PERFORM nextval('fault_calls'); PERFORM pg_sleep(5);");
    await metFault(4);
    // Calls are answered meanwhile.
    await load.answered(SOME);
    await mend();
    await expectNothingLost();
  });

  test("when the schema is one migration behind, which readiness says", async () => {
    const [newest] = await query<{ name: string; sha256: string }>(
      postgres.url,
      "DELETE FROM atlas_migrations WHERE name = $1 RETURNING name, sha256",
      [POSTGRES_SCHEMA],
    );
    // What was under way then has ended.
    await sleep(1_500);
    const [before] = await countRecords();
    await load.answered(SOME);
    await sleep(2_500);
    expect(await readiness()).toMatchObject({
      status: 503,
      archive: { ok: false, message: expect.stringContaining("npm run migrate:postgres") },
    });
    const [after] = await countRecords();
    expect(after).toEqual(before);
    await query(postgres.url, "INSERT INTO atlas_migrations (name, sha256) VALUES ($1, $2)", [
      newest?.name,
      newest?.sha256,
    ]);
    await expectNothingLost();
  });

  test("when somebody else holds the row of a session for a while", async () => {
    const [row] = await query<{ session_id: string }>(
      postgres.url,
      "SELECT session_id FROM sessions ORDER BY created_at DESC LIMIT 1",
    );
    // Holds the row of a session, so that its flush has to wait for it, and lets go.
    await query(
      postgres.url,
      `DO $$ BEGIN
         PERFORM 1 FROM sessions WHERE session_id = '${row?.session_id}' FOR UPDATE;
         PERFORM pg_sleep(3);
       END $$`,
    );
    await expectNothingLost();
  });
});
