/**
 * @module
 * A standby of a running server, by the low-level backup interface of
 * PostgreSQL: the packaged binaries have no pg_basebackup.
 */
import { execFileSync } from "node:child_process";
import { chownSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { PostgresServer } from "../../../src/cli/postgres/server.ts";
import { eventually } from "../../e2e/support/eventually.ts";
import { freePort } from "../../e2e/support/gateway.ts";
import { query, type TestServer } from "./server.ts";

export type Standby = { readonly server: PostgresServer; readonly port: number };

/** Starts a standby that every commit of the primary waits for. */
export async function startStandby(primary: TestServer, password: string): Promise<Standby> {
  const from = join(primary.dir, "data");
  const dataDir = join(primary.dir, "standby");
  const client = new pg.Client({ connectionString: primary.url });
  await client.connect();
  await client.query("SELECT pg_backup_start('standby', true)");
  execFileSync("cp", ["-a", from, dataDir]);
  const { rows } = await client.query<{ labelfile: string }>(
    "SELECT labelfile FROM pg_backup_stop()",
  );
  await client.end();
  for (const name of ["postmaster.pid", "postmaster.opts"])
    rmSync(join(dataDir, name), { force: true });
  place(dataDir, "backup_label", rows[0]?.labelfile ?? "");
  place(dataDir, "standby.signal", "");
  const port = await freePort();
  const server = await PostgresServer.create({
    dataDir,
    port,
    password,
    settings: {
      primary_conninfo: `host=127.0.0.1 port=${primary.port} user=postgres password='${password}' application_name=standby`,
    },
  });
  await server.start();
  await query(primary.url, "ALTER SYSTEM SET synchronous_standby_names = 'standby'");
  await query(primary.url, "SELECT pg_reload_conf()");
  await eventually("the standby is in step", async () => {
    const rows = await query<{ sync_state: string }>(
      primary.url,
      "SELECT sync_state FROM pg_stat_replication",
    );
    return rows[0]?.sync_state === "sync" ? true : null;
  });
  return { server, port };
}

/** A file of the folder's owner: the server does not run as root. */
function place(dir: string, name: string, text: string): void {
  const path = join(dir, name);
  const { uid, gid } = statSync(dir);
  writeFileSync(path, text, { mode: 0o600 });
  chownSync(path, uid, gid);
}
