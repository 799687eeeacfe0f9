/**
 * @module
 * `npm start`: the gateway on this machine, everything local and persistent.
 * Idempotent: what is there is used, what is missing is made.
 */
import type { ChildProcess } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import * as z from "zod";
import { isWithin, parseCidr } from "../policy/cidr.ts";
import { ensureKeys } from "./local-keys.ts";
import {
  ensureSecrets,
  type LocalFile,
  readLocalKeys,
  StartError,
  secretsPath,
  writeLocalFile,
} from "./local-state.ts";
import { LOCAL_HYPERDRIVE, startLocalPostgres, writePostgresConfig } from "./postgres/local.ts";
import {
  endGroup,
  exitOf,
  lastLines,
  ROOT,
  runWrangler,
  startWrangler,
  stopGroup,
} from "./wrangler.ts";

const USAGE =
  "npm start -- [--port N] [--persist-to DIR] [--var NAME:VALUE]... [--postgres | --postgres-url URL]";
const HOST = "127.0.0.1";
const DEFAULT_PORT = 8787;
const START_TIMEOUT_MS = 60_000;
const POLL_MS = 150;

const readinessAnswer = z.object({
  checks: z
    .record(z.string(), z.object({ ok: z.boolean(), message: z.string().optional() }))
    .optional(),
});

type Options = {
  readonly port: number;
  readonly stateDir: string;
  readonly vars: readonly string[];
  /** Whether to run a PostgreSQL for the archive, or where one is that is migrated already. */
  readonly postgres: boolean | string;
};

function readOptions(): Options {
  try {
    const { values } = parseArgs({
      options: {
        port: { type: "string", default: String(DEFAULT_PORT) },
        "persist-to": { type: "string", default: join(ROOT, ".atlas-gate") },
        var: { type: "string", multiple: true, default: [] },
        postgres: { type: "boolean", default: false },
        "postgres-url": { type: "string" },
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
    const postgres = values["postgres-url"] ?? values.postgres;
    return {
      port,
      stateDir: resolve(values["persist-to"]),
      vars: postgres === false ? values.var : ["ARCHIVE:postgres", ...values.var],
      postgres,
    };
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

/** Two gateways on one state folder would fork its chains: the second one does not start. */
async function requireOwnState(stateDir: string): Promise<void> {
  const path = join(stateDir, "gateway.json");
  const other = await readOtherGateway(path);
  if (other !== null && isAlive(other.pid) && (await answers(other.url))) {
    throw new StartError(
      `A gateway is running on ${stateDir} already, at ${other.url}. Stop it first.`,
    );
  }
}

const otherGateway = z.object({ pid: z.int(), url: z.string() });

async function readOtherGateway(path: string): Promise<z.infer<typeof otherGateway> | null> {
  try {
    return otherGateway.parse(JSON.parse(await readFile(path, "utf8")));
  } catch {
    // Never started here, or cut off while it was written: then nothing runs.
    return null;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Whether something answers there: a pid alone may have gone to another program since. */
async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(`${url}/health`);
    await response.body?.cancel();
    return true;
  } catch {
    return false;
  }
}

async function start(): Promise<number> {
  const options = readOptions();
  const { port, stateDir } = options;
  await requireFreePort(port);
  const secrets = await ensureSecrets(stateDir);
  await requireOwnState(stateDir);

  const postgres = options.postgres === true ? await startLocalPostgres(stateDir) : null;
  const hyperdrive =
    postgres?.url ?? (options.postgres === false ? null : String(options.postgres));
  const config = hyperdrive === null ? null : await writePostgresConfig();
  const archive: ArchiveBinding | null =
    config === null || hyperdrive === null ? null : { config, url: hyperdrive };

  let current: ChildProcess | null = null;
  let stopping = false;
  const aborter = new AbortController();
  const stop = () => {
    stopping = true;
    aborter.abort();
    if (current !== null) void stopGroup(current, "SIGTERM");
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, stop);
  stopWithNpm(stop);
  const launched = (gateway: Gateway): Gateway => {
    current = gateway.child;
    if (stopping) stop();
    return gateway;
  };

  try {
    await runWrangler(
      ["d1", "migrations", "apply", "ARCHIVE_DB", "--local", "--persist-to", stateDir],
      stateDir,
      aborter.signal,
    );
    const url = `http://${HOST}:${port}`;
    const foreignHost = isForeign(options.vars, url);
    // A gateway that does not let this machine in gets its keys before it is one.
    const vars = options.vars.filter((pair) => !shutsOut(pair, url));
    const isShut = vars.length < options.vars.length;
    let gateway = launched(launch(options, vars, archive));
    await Promise.race([waitUntilReady(url), gateway.failed]);
    const keys = await Promise.race([
      ensureKeys(url, secrets.ADMIN_TOKEN, await readLocalKeys(stateDir)),
      gateway.failed,
    ]);
    const file: LocalFile = { url, admin_token: secrets.ADMIN_TOKEN, keys };
    await writeLocalFile(stateDir, file);
    await writeFile(join(stateDir, "gateway.json"), JSON.stringify({ pid: process.pid, url }));
    if (isShut) {
      await stopGroup(gateway.child, "SIGTERM");
      if (stopping) return 0;
      gateway = launched(launch(options, options.vars, archive));
      await Promise.race([waitUntilReady(url, foreignHost), gateway.failed]);
    }
    console.log(banner(file, stateDir));
    gateway.showOutput();
    const code = await exitOf(gateway.child);
    endGroup(gateway.child);
    return stopping ? 0 : code === 0 ? 1 : code;
  } catch (error) {
    if (current !== null) await stopGroup(current, "SIGTERM");
    if (stopping) return 0;
    throw error;
  } finally {
    await postgres?.stop();
  }
}

/** Whether a variable keeps this machine out of the gateway; what is no good value is the gateway's to refuse. */
function shutsOut(pair: string, url: string): boolean {
  const [name, value] = splitVar(pair);
  switch (name) {
    case "PUBLIC_URL":
      return URL.canParse(value) && new URL(value).host !== new URL(url).host;
    case "ALLOWED_IPS": {
      const blocks = value.split(",").flatMap((each) => parseCidr(each.trim()) ?? []);
      return blocks.length > 0 && !isWithin(blocks, HOST);
    }
    case "REQUIRE_CLIENT_CERT":
      return value === "true";
    default:
      return false;
  }
}

/** Whether the gateway answers for another host than this machine's. */
function isForeign(vars: readonly string[], url: string): boolean {
  return vars.some((pair) => splitVar(pair)[0] === "PUBLIC_URL" && shutsOut(pair, url));
}

function splitVar(pair: string): [name: string, value: string] {
  const colon = pair.indexOf(":");
  return [pair.slice(0, colon), pair.slice(colon + 1)];
}

/** How soon it is noticed that npm has gone, in ms. */
const PARENT_POLL_MS = 500;

/** npm runs a script in a shell, which dies of a signal without passing it on: who is left without it stops too. */
function stopWithNpm(stop: () => void): void {
  if (process.env.npm_lifecycle_event === undefined) return;
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    stop();
  }, PARENT_POLL_MS);
  watch.unref();
}

type Gateway = {
  readonly child: ChildProcess;
  /** Rejects with the reason when the process ends. */
  readonly failed: Promise<never>;
  /** From here on the output is the gateway's log; until then it only explains a failure. */
  readonly showOutput: () => void;
};

/** The configuration that binds PostgreSQL, and where it is. */
type ArchiveBinding = { readonly config: string; readonly url: string };

function launch(
  { port, stateDir }: Options,
  vars: readonly string[],
  archive: ArchiveBinding | null,
): Gateway {
  const child = startWrangler(
    [
      "dev",
      ...(archive === null ? [] : ["--config", archive.config]),
      ...["--ip", HOST, "--port", String(port), "--inspector-port", "0"],
      ...["--persist-to", stateDir, "--env-file", secretsPath(stateDir)],
      "--show-interactive-dev-session=false",
      ...vars.flatMap((pair) => ["--var", pair]),
    ],
    stateDir,
    archive === null ? {} : { [LOCAL_HYPERDRIVE]: archive.url },
  );
  let early = "";
  let shown = false;
  for (const stream of [child.stdout, child.stderr]) {
    if (stream === null) continue;
    createInterface({ input: stream }).on("line", (line) => {
      if (!shown) early += `${line}\n`;
      // wrangler's own line about each request says less than the gateway's.
      else if (line !== "" && !line.includes("[wrangler:info]")) console.log(line);
    });
  }
  const failed = exitOf(child).then(() => {
    throw new StartError(`The gateway did not start: ${lastLines(early)}`);
  });
  // Once it runs, its end is waited for elsewhere.
  failed.catch(() => undefined);
  return {
    child,
    failed,
    showOutput: () => {
      shown = true;
    },
  };
}

/**
 * Waits until the gateway is ready; throws with what a check says of why it never will be. One that
 * answers for another host is ready when it says so.
 */
async function waitUntilReady(url: string, foreignHost = false): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  let last = "it does not answer";
  while (Date.now() < deadline) {
    try {
      const response = await fetch(`${url}/health/ready`);
      if (response.status === 200 || (foreignHost && response.status === 421)) return;
      const { checks } = readinessAnswer.parse(await response.json());
      for (const check of [checks?.configuration, checks?.deployment]) {
        if (check?.ok === false) {
          throw new StartError(`The gateway did not start: ${check.message}.`);
        }
      }
      const said = Object.values(checks ?? {}).find(({ ok }) => !ok)?.message;
      last = said ?? `it answers ${response.status}`;
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
