/**
 * @module
 * Connections to PostgreSQL. Each piece of work gets a client of its own and
 * closes it: in a Worker a socket belongs to the invocation that opened it, and
 * Hyperdrive keeps the real connections warm.
 */
import type { Client } from "pg";
import { logEvent } from "../ops/log.ts";

const CONNECT_TIMEOUT_MS = 15_000;
/** Longer than any statement here should take, shorter than an alarm may run. */
const QUERY_TIMEOUT_MS = 60_000;

/** Runs `work` with a client that is closed after it, also when it fails. */
export async function withClient<T>(
  connectionString: string,
  work: (client: Client) => Promise<T>,
): Promise<T> {
  // Only a deployment that has PostgreSQL pays for loading its client.
  const { default: pg } = await import("pg");
  const client = new pg.Client({
    connectionString,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: QUERY_TIMEOUT_MS,
    application_name: "atlas-gate",
  });
  let done = false;
  // A connection that breaks while nothing is asked of it must not end the isolate.
  client.on("error", (error) => {
    if (!done) logEvent("warn", "postgres_connection_lost", { error: error.message });
  });
  try {
    await client.connect();
    return await work(client);
  } finally {
    done = true;
    // Not awaited: a peer that is gone never says goodbye.
    client.end().catch(() => undefined);
  }
}

/** Runs `work` in a transaction, as `role` where one is given. */
export async function inTransaction<T>(
  client: Client,
  role: "atlas_maintenance" | null,
  work: () => Promise<T>,
): Promise<T> {
  await client.query("BEGIN");
  try {
    if (role !== null) await client.query(`SET LOCAL ROLE ${role}`);
    const result = await work();
    await client.query("COMMIT");
    return result;
  } catch (error) {
    // The error that counts is the first one; a lost connection has rolled back by itself.
    await client.query("ROLLBACK").catch(() => undefined);
    throw error;
  }
}
