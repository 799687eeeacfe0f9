/**
 * @module
 * The database of a local gateway: migrated, and with a login for the gateway
 * that has the rights that a login of a deployment should have.
 */
import pg from "pg";
import { migratePostgres } from "./migrate.ts";
import type { PostgresServer } from "./server.ts";

export const GATEWAY_LOGIN = "gateway";

/** Migrates (up to `last`, where it is given) and makes the login. Repeating is safe. */
export async function prepareDatabase(
  server: PostgresServer,
  password: string,
  last?: string,
): Promise<void> {
  await migratePostgres(server.url(), last);
  const client = new pg.Client({ connectionString: server.url() });
  await client.connect();
  try {
    const { rowCount } = await client.query("SELECT FROM pg_roles WHERE rolname = $1", [
      GATEWAY_LOGIN,
    ]);
    const verb = rowCount === 0 ? "CREATE" : "ALTER";
    await client.query(
      `${verb} ROLE ${GATEWAY_LOGIN} LOGIN PASSWORD ${client.escapeLiteral(password)}`,
    );
    const { rowCount: roles } = await client.query(
      "SELECT FROM pg_roles WHERE rolname IN ('atlas_gateway', 'atlas_maintenance')",
    );
    if (roles !== 2) return;
    await client.query(`GRANT atlas_gateway TO ${GATEWAY_LOGIN}`);
    // It may step into the role for maintenance; until it does, it has nothing of it.
    await client.query(`GRANT atlas_maintenance TO ${GATEWAY_LOGIN} WITH INHERIT FALSE, SET TRUE`);
  } finally {
    await client.end();
  }
}
