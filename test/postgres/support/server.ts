/**
 * @module
 * PostgreSQL for a test file: a server of its own on a free port, with a login
 * for the gateway that has the rights of the gateway and no others.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { GATEWAY_LOGIN, prepareDatabase } from "../../../src/cli/postgres/database.ts";
import { PostgresServer } from "../../../src/cli/postgres/server.ts";
import { freePort } from "../../e2e/support/gateway.ts";
import { requireSums } from "./archive-sums.ts";

export const PASSWORD = "for tests";

export type TestServer = {
  readonly server: PostgresServer;
  readonly port: number;
  readonly dir: string;
  /** The superuser's. */
  readonly url: string;
  /** The gateway's. */
  readonly gatewayUrl: string;
  /**
   * Ends it. Throws when its counts are not what it holds, unless `lost` says in
   * words why it can no longer be asked.
   */
  readonly dispose: (lost?: string) => Promise<void>;
};

/** A running server, migrated. */
export async function startServer(
  settings: Readonly<Record<string, string>> = {},
  lastMigration?: string,
): Promise<TestServer> {
  const dir = await mkdtemp(join(tmpdir(), "atlas-gate-postgres-"));
  const port = await freePort();
  const server = await PostgresServer.create({
    dataDir: join(dir, "data"),
    port,
    password: PASSWORD,
    settings,
  });
  await server.start();
  await prepareDatabase(server, PASSWORD, lastMigration);
  return {
    server,
    port,
    dir,
    url: server.url(),
    gatewayUrl: server.url("postgres", GATEWAY_LOGIN, PASSWORD),
    dispose: async (lost) => {
      try {
        if (lost === undefined) await requireSums(server.url());
      } finally {
        await server.kill();
        await rm(dir, { recursive: true, force: true, maxRetries: 5 });
      }
    },
  };
}

/** One statement, as whoever the URL names. */
export async function query<Row extends object>(
  url: string,
  statement: string,
  bound: readonly unknown[] = [],
): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Row>(statement, [...bound])).rows;
  } finally {
    await client.end();
  }
}
