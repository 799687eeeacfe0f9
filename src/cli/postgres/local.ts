/**
 * @module
 * PostgreSQL for a local gateway: the server in its state folder, and the
 * configuration that binds it as Hyperdrive does a real one.
 */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { ROOT } from "../wrangler.ts";
import { GATEWAY_LOGIN, prepareDatabase } from "./database.ts";
import { PostgresServer } from "./server.ts";

/** wrangler reads the connection string of a local binding from here. */
export const LOCAL_HYPERDRIVE = "CLOUDFLARE_HYPERDRIVE_LOCAL_CONNECTION_STRING_HYPERDRIVE";

/** Beside wrangler.toml, whose paths are relative to it; the same for every gateway of the folder. */
const CONFIG = join(ROOT, ".wrangler-postgres.toml");

/** `id` is only read when it is deployed. */
const BINDING = `
[[hyperdrive]]
binding = "HYPERDRIVE"
id = "00000000000000000000000000000000"
`;

export type LocalPostgres = {
  /** For the gateway's login. */
  readonly url: string;
  readonly stop: () => Promise<void>;
};

/** Starts the server of a state folder, made and migrated where it must be. */
export async function startLocalPostgres(stateDir: string): Promise<LocalPostgres> {
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  const password = await ensurePassword(join(stateDir, "postgres-password"));
  const server = await PostgresServer.create({
    dataDir: join(stateDir, "postgres"),
    port: await freePort(),
    password,
  });
  await server.start();
  try {
    await prepareDatabase(server, password);
  } catch (error) {
    await server.stop();
    throw error;
  }
  return {
    url: server.url("postgres", GATEWAY_LOGIN, password),
    stop: () => server.stop(),
  };
}

/** Writes the configuration with the binding; answers with its path. */
export async function writePostgresConfig(): Promise<string> {
  const text = await readFile(join(ROOT, "wrangler.toml"), "utf8");
  const temporary = `${CONFIG}.${process.pid}`;
  await writeFile(temporary, `${text}${BINDING}`);
  await rename(temporary, CONFIG);
  return CONFIG;
}

async function ensurePassword(path: string): Promise<string> {
  if (!existsSync(path)) await writeFile(path, randomBytes(24).toString("hex"), { mode: 0o600 });
  return (await readFile(path, "utf8")).trim();
}

/** A port of loopback that was free a moment ago. */
export async function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => {
        if (typeof address === "object" && address !== null) resolve(address.port);
        else reject(new Error("There is no free port."));
      });
    });
  });
}
