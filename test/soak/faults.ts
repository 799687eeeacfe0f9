/**
 * @module
 * The faults of the soak: each breaks something, waits, and mends it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Gateway } from "../e2e/support/gateway.ts";
import type { PostgresProxy } from "../postgres/support/proxy.ts";
import { query, type TestServer } from "../postgres/support/server.ts";
import type { Clients } from "./clients.ts";

export type Arena = {
  readonly postgres: TestServer;
  readonly proxy: PostgresProxy;
  readonly gateway: Gateway;
  readonly clients: Clients;
};

export type Fault = { readonly name: string; readonly run: (arena: Arena) => Promise<void> };

const FAULT_MS = 2_000;

/** Has the archive's inserts do something first, for a while. */
async function beforeInserts({ postgres }: Arena, body: string): Promise<void> {
  await query(
    postgres.url,
    `CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${body} RETURN NULL; END $$;
     CREATE TRIGGER fault AFTER INSERT ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION fault()`,
  );
  await sleep(FAULT_MS);
  await query(postgres.url, "DROP TRIGGER fault ON audit_log; DROP FUNCTION fault");
}

const raising = (condition: string): Fault => ({
  name: `inserts fail: ${condition}`,
  run: (arena) => beforeInserts(arena, `RAISE EXCEPTION 'soak' USING ERRCODE = '${condition}';`),
});

export const FAULTS: readonly Fault[] = [
  {
    name: "PostgreSQL is stopped",
    run: async ({ postgres }) => {
      await postgres.server.stop();
      await sleep(FAULT_MS);
      await postgres.server.start();
    },
  },
  {
    name: "PostgreSQL is killed",
    run: async ({ postgres }) => {
      await postgres.server.kill();
      await postgres.server.start();
    },
  },
  {
    name: "connections are refused",
    run: async ({ proxy }) => {
      proxy.down();
      await sleep(FAULT_MS);
      proxy.up();
    },
  },
  {
    name: "connections are cut after the commit",
    run: async ({ proxy }) => {
      proxy.cutAfterCommit(5);
      await sleep(FAULT_MS);
      proxy.cutAfterCommit(0);
    },
  },
  {
    name: "inserts are slow",
    run: (arena) => beforeInserts(arena, "PERFORM pg_sleep(1);"),
  },
  raising("disk_full"),
  raising("deadlock_detected"),
  raising("serialization_failure"),
  {
    name: "the gateway is killed",
    run: async ({ gateway, clients }) => {
      await clients.whileDown(async () => {
        await gateway.kill();
        await gateway.restart();
      });
    },
  },
];
