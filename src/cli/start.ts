/**
 * @module
 * `npm start`: the gateway on this machine, everything local and persistent.
 * Idempotent: what is there is used, what is missing is made.
 */
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { ensureKeys } from "./local-keys.ts";
import {
  ensureSecrets,
  type LocalFile,
  readLocalKeys,
  StartError,
  secretsPath,
  writeLocalFile,
} from "./local-state.ts";
import { exitOf, lastLines, ROOT, runWrangler, startWrangler, stopGroup } from "./wrangler.ts";

const USAGE = "npm start -- [--port N] [--persist-to DIR] [--var NAME:VALUE]...";
const HOST = "127.0.0.1";
const DEFAULT_PORT = 8787;
const START_TIMEOUT_MS = 60_000;
const POLL_MS = 150;

type Options = { port: number; stateDir: string; vars: string[] };

function readOptions(): Options {
  try {
    const { values } = parseArgs({
      options: {
        port: { type: "string", default: String(DEFAULT_PORT) },
        "persist-to": { type: "string", default: join(ROOT, ".atlas-gate") },
        var: { type: "string", multiple: true, default: [] },
      },
    });
    const port = Number(values.port);
    if (!Number.isInteger(port) || port < 1 || port > 65_535) {
      throw new StartError(`--port must be from 1 to 65535, not ${values.port}.`);
    }
    for (const pair of values.var) {
      if (!/^[A-Z][A-Z0-9_]*:/.test(pair)) {
        throw new StartError(`--var takes NAME:VALUE, not ${pair}.`);
      }
    }
    return { port, stateDir: resolve(values["persist-to"]), vars: values.var };
  } catch (error) {
    if (error instanceof StartError) throw error;
    throw new StartError(`${error instanceof Error ? error.message : error} Usage: ${USAGE}`);
  }
}

/** wrangler would quietly take another port. */
async function requireFreePort(port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const server = createServer();
    server.once("error", () =>
      reject(new StartError(`Port ${port} is taken. Stop what listens there, or pass --port N.`)),
    );
    server.listen(port, HOST, () => server.close(() => resolve()));
  });
}

async function start(): Promise<number> {
  const { port, stateDir, vars } = readOptions();
  await requireFreePort(port);
  const secrets = await ensureSecrets(stateDir);
  await runWrangler(
    ["d1", "migrations", "apply", "ARCHIVE_DB", "--local", "--persist-to", stateDir],
    stateDir,
  );

  const gateway = startWrangler(
    [
      "dev",
      "--ip",
      HOST,
      "--port",
      String(port),
      "--inspector-port",
      "0",
      "--persist-to",
      stateDir,
      "--env-file",
      secretsPath(stateDir),
      "--show-interactive-dev-session=false",
      ...vars.flatMap((pair) => ["--var", pair]),
    ],
    stateDir,
  );
  let output = "";
  let started = false;
  const read = (chunk: Buffer) => {
    // Once it runs, its logs are the gateway's; before that they only explain a failure.
    if (started) process.stdout.write(gatewayLines(chunk));
    else output += chunk;
  };
  gateway.stdout?.on("data", read);
  gateway.stderr?.on("data", read);

  let stopping = false;
  const stop = () => {
    stopping = true;
    void stopGroup(gateway, "SIGTERM");
  };
  process.once("SIGINT", stop);
  process.once("SIGTERM", stop);
  process.once("SIGHUP", stop);

  try {
    const url = `http://${HOST}:${port}`;
    const exited = exitOf(gateway).then(() => {
      throw new StartError(`The gateway did not start: ${lastLines(output)}`);
    });
    await Promise.race([waitUntilReady(url), exited]);
    const keys = await Promise.race([
      ensureKeys(url, secrets.ADMIN_TOKEN, await readLocalKeys(stateDir)),
      exited,
    ]);
    const file: LocalFile = { url, admin_token: secrets.ADMIN_TOKEN, keys };
    await writeLocalFile(stateDir, file);
    console.log(banner(file, stateDir));
    started = true;
    exited.catch(() => undefined);
  } catch (error) {
    await stopGroup(gateway, "SIGTERM");
    if (stopping) return 0;
    throw error;
  }
  const code = await exitOf(gateway);
  return stopping ? 0 : code === 0 ? 1 : code;
}

/** wrangler's own line about each request says less than the gateway's. */
function gatewayLines(chunk: Buffer): string {
  return chunk
    .toString()
    .split("\n")
    .filter((line) => !line.includes("[wrangler:info]"))
    .join("\n");
}

/** Ready, or a reason why it never will be: a check of its own that says what is wrong. */
async function waitUntilReady(url: string): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  let last = "it does not answer";
  while (Date.now() < deadline) {
    try {
      const response = await fetch(`${url}/health/ready`);
      if (response.status === 200) return;
      const { checks } = (await response.json()) as {
        checks?: Record<string, { ok: boolean; message?: string }>;
      };
      for (const name of ["configuration", "deployment"]) {
        const check = checks?.[name];
        if (check?.ok === false)
          throw new StartError(`The gateway did not start: ${check.message}.`);
      }
      last = `it answers ${response.status}`;
    } catch (error) {
      if (error instanceof StartError) throw error;
    }
    await new Promise((wake) => setTimeout(wake, POLL_MS));
  }
  throw new StartError(`The gateway did not become ready within a minute: ${last}.`);
}

function banner(file: LocalFile, stateDir: string): string {
  const client = {
    mcpServers: {
      "atlas-gate": {
        type: "http",
        url: `${file.url}/mcp`,
        headers: { Authorization: `Bearer ${file.keys.windsurf}` },
      },
    },
  };
  return [
    "",
    "  Atlas Gate is ready.",
    "",
    `  MCP endpoint   ${file.url}/mcp`,
    `  Admin API      ${file.url}/admin/openapi.json`,
    `  Keys           ${join(stateDir, "local.json")} (one a role)`,
    "",
    "  A client that executes plans (role windsurf) connects with:",
    "",
    ...JSON.stringify(client, null, 2)
      .split("\n")
      .map((line) => `  ${line}`),
    "",
    "  Stop with Ctrl-C. State stays, and so do the keys.",
    "",
  ].join("\n");
}

try {
  process.exitCode = await start();
} catch (error) {
  console.error(
    error instanceof StartError || error instanceof Error ? error.message : String(error),
  );
  process.exitCode = 1;
}
