/**
 * @module
 * `npm run bench`: what the gateway's calls cost beside the least that any
 * gateway of this shape could cost, on this machine. Exits with 0 unless
 * something failed to run; slow is not a failure.
 */
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ROOT, runWrangler } from "../src/cli/wrangler.ts";
import { measureAnchoring } from "./anchoring.ts";
import { allCases, isTargeted, MAX_SESSIONS, range, TARGETED } from "./cases.ts";
import { GatewayClient, type Session } from "./client.ts";
import { measureFederation } from "./federation.ts";
import { type FlushPace, measureFlush } from "./flush.ts";
import { measureGuard } from "./guard.ts";
import { type Host, startHost } from "./host.ts";
import { type LogGrowth, measureLogGrowth } from "./log-growth.ts";
import { measureLongSession } from "./long-session.ts";
import { fasterTransport, measureAll, type Pace } from "./measure.ts";
import { growthLine, guardLine, machine, type Results, rowsOf, textOf } from "./report.ts";
import { measureTwelveClients } from "./twelve-clients.ts";

const USAGE = "npm run bench -- [log|guard] [--quick] [--json FILE]";
/** Sessions that are opened at the same time. */
const OPENING = 8;

type Plan = Pace & {
  readonly flush: FlushPace;
  readonly transportRounds: number;
  readonly longCalls: number;
  readonly twelveMs: number;
  readonly federation: { readonly rounds: number; readonly sliceMs: number };
  readonly guard: { readonly rounds: number; readonly sliceMs: number };
  readonly logLeaves: number;
};

/** The setting that the targets are for is measured most often. */
const FULL: Plan = {
  sliceMs: 500,
  rounds: (setting) => (isTargeted(setting) ? 20 : 8),
  transportRounds: 10,
  longCalls: 20_000,
  flush: { rounds: 12, sliceMs: 2_000, backlog: 100_000 },
  twelveMs: 10_000,
  federation: { rounds: 10, sliceMs: 500 },
  guard: { rounds: 24, sliceMs: 500 },
  logLeaves: 1_000_000,
};
const QUICK: Plan = {
  sliceMs: 150,
  rounds: (setting) => (isTargeted(setting) ? 4 : 1),
  transportRounds: 2,
  longCalls: 1_200,
  flush: { rounds: 2, sliceMs: 300, backlog: 600 },
  twelveMs: 1_200,
  federation: { rounds: 2, sliceMs: 150 },
  guard: { rounds: 4, sliceMs: 150 },
  logLeaves: 12_000,
};

const PARTS = ["log", "guard"] as const;
type Part = (typeof PARTS)[number];

type Options = {
  readonly quick: boolean;
  readonly json: string | null;
  /** One part alone. */
  readonly part: Part | null;
};

function readOptions(): Options {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { quick: { type: "boolean", default: false }, json: { type: "string" } },
    });
    const part = PARTS.find((name) => name === positionals[0]) ?? null;
    if (positionals.length > (part === null ? 0 : 1)) throw new Error("There is no such part.");
    return { quick: values.quick, json: values.json ?? null, part };
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : error} Usage: ${USAGE}`);
  }
}

async function bench({ quick, json, part }: Options, signal: AbortSignal): Promise<void> {
  const plan = quick ? QUICK : FULL;
  const dir = await temporaryFolder();
  const hosts: Host[] = [];
  try {
    if (part === "log") {
      say(`Growing a log to ${plan.logLeaves} leaves.`);
      const growth = await growLog(dir, plan.logLeaves, hosts, signal);
      console.log(growthLine(growth));
      if (json !== null) await writeFile(json, `${JSON.stringify(growth, null, 2)}\n`);
      return;
    }
    say("Building the Worker and starting its hosts.");
    const outDir = join(dir, "bundle");
    await runWrangler(["deploy", "--dry-run", "--outdir", outDir], dir);
    const config = join(ROOT, "wrangler.toml");
    const secrets = newSecrets();
    const startGateway = async (
      name: string,
      vars: Readonly<Record<string, string>> = {},
      script = join(outDir, "index.js"),
    ) => {
      const host = await startHost(
        {
          kind: "gateway",
          script,
          stateDir: join(dir, name),
          config,
          migrationsDir: join(ROOT, "migrations", "d1"),
          // The federation's upstream is on this machine.
          secrets: { ...secrets, ALLOW_PRIVATE_UPSTREAMS: "true", ...vars },
        },
        signal,
      );
      hosts.push(host);
      return host;
    };
    const gateway = await startGateway("gateway");
    const client = await GatewayClient.connect(gateway.url, secrets.ADMIN_TOKEN);
    const measureGuarded = async (sessions: readonly Session[]) => {
      say("Calls with and without the guard.");
      const host = await startGateway("open", NO_LIMITS, await openWorker(dir));
      const openClient = await GatewayClient.connect(host.url, secrets.ADMIN_TOKEN);
      const open = {
        host,
        client: openClient,
        sessions: await openSessions(openClient, TARGETED.sessions),
      };
      return measureGuard(
        { guarded: { host: gateway, client, sessions }, open },
        plan.guard,
        signal,
      );
    };
    if (part === "guard") {
      const rows = await measureGuarded(await openSessions(client, TARGETED.sessions));
      console.log(rows.map(guardLine).join("\n"));
      if (json !== null) await writeFile(json, `${JSON.stringify(rows, null, 2)}\n`);
      return;
    }
    const floor = await startHost(
      {
        kind: "floor",
        script: join(import.meta.dirname, "floor-worker.js"),
        stateDir: join(dir, "floor"),
        config,
      },
      signal,
    );
    hosts.push(floor);
    say(`Opening ${MAX_SESSIONS} sessions.`);
    const sessions = await openSessions(client, MAX_SESSIONS);
    const transport = await fasterTransport(
      floor,
      TARGETED,
      plan.transportRounds,
      plan.sliceMs,
      signal,
    );
    const cases = allCases(floor.url, transport.faster, client, sessions);
    const measured = await measureAll(
      { floor, gateway },
      cases,
      plan,
      signal,
      ({ clients, sessions: n }) => say(`Measuring ${clients} clients on ${n} sessions.`),
    );
    say(`Taking one session to ${plan.longCalls} calls.`);
    const longSession = await measureLongSession(client, plan.longCalls, signal);
    say("Twelve clients at once.");
    const twelveClients = await measureTwelveClients(client, plan.twelveMs, signal);
    say("An upstream, directly and through the gateway.");
    const federation = await measureFederation(client, plan.federation, signal);

    const guard = await measureGuarded(sessions);

    say("Calls until they are anchored.");
    const anchoring = await measureAnchoring(client, signal);
    say(`Growing a log to ${plan.logLeaves} leaves.`);
    const logGrowth = await growLog(dir, plan.logLeaves, hosts, signal);

    say(`Flushing, and a backlog of ${plan.flush.backlog} records.`);
    const side = async (name: string, seconds: string) => {
      const host = await startGateway(name, { FLUSH_INTERVAL_SECONDS: seconds });
      return { host, client: await GatewayClient.connect(host.url, secrets.ADMIN_TOKEN) };
    };
    const flush = await measureFlush(
      { eager: await side("eager", "1"), patient: await side("patient", "3600") },
      plan.flush,
      join(dir, "postgres"),
      signal,
    );

    const results: Results = {
      host: hostLine(),
      machine: machine(),
      quick,
      transport,
      rows: rowsOf(measured),
      long_session: longSession,
      twelve_clients: twelveClients,
      federation,
      guard,
      anchoring,
      log_growth: logGrowth,
      flush,
    };
    console.log(textOf(results));
    if (json !== null) await writeFile(json, `${JSON.stringify(results, null, 2)}\n`);
  } catch (error) {
    for (const line of hosts.flatMap((host) => host.errors())) console.error(line);
    throw error;
  } finally {
    await Promise.all(hosts.map((host) => host.stop()));
    await rm(dir, { recursive: true, force: true });
  }
}

/** Limits are part of the guard. */
const NO_LIMITS = { RATE_LIMIT_PER_MINUTE: "0", RATE_LIMIT_PRINCIPAL_PER_MINUTE: "0" };

/** Builds the Worker that has no guard; answers with its script. */
async function openWorker(dir: string): Promise<string> {
  const entry = join(import.meta.dirname, "open-worker.ts");
  const outDir = join(dir, "open-bundle");
  await runWrangler(["deploy", entry, "--dry-run", "--outdir", outDir], dir);
  return join(outDir, "open-worker.js");
}

/** In a host of its own, from a bundle of its own. */
async function growLog(
  dir: string,
  leaves: number,
  hosts: Host[],
  signal: AbortSignal,
): Promise<LogGrowth> {
  const outDir = join(dir, "log-bundle");
  const config = join(import.meta.dirname, "log-worker.toml");
  await runWrangler(["deploy", "--dry-run", "--outdir", outDir, "--config", config], dir);
  const script = join(outDir, "log-worker.js");
  const host = await startHost({ kind: "log", script, stateDir: join(dir, "log"), config }, signal);
  hosts.push(host);
  return measureLogGrowth(host.url, leaves, signal);
}

/** On the project's own disk: a temporary folder in memory would make every row durable for nothing. */
async function temporaryFolder(): Promise<string> {
  const cache = join(ROOT, "node_modules", ".cache");
  await mkdir(cache, { recursive: true });
  return mkdtemp(join(cache, "atlas-gate-bench-"));
}

function newSecrets() {
  const secret = () => randomBytes(32).toString("base64");
  return { ADMIN_TOKEN: secret(), LOG_SIGNING_KEY: secret(), SECRETS_KEY: secret() };
}

/** Each session has a workspace of its own, as each object of the two-object floor has its other one. */
async function openSessions(client: GatewayClient, count: number): Promise<Session[]> {
  const sessions: Session[] = [];
  while (sessions.length < count) {
    const batch = range(Math.min(OPENING, count - sessions.length));
    sessions.push(
      ...(await Promise.all(
        batch.map((at) => client.openSession(`/srv/bench/workspace-${sessions.length + at}`)),
      )),
    );
  }
  return sessions;
}

function hostLine(): string {
  return (
    `workerd ${versionOf("workerd")} under Miniflare ${versionOf("miniflare")}, the Worker's own socket: no wrangler dev, whose proxy and logging ` +
    "cost more than the gateway. Floors and gateway in a workerd each, SQLite-backed objects on disk, request logs written and thrown away by the kernel."
  );
}

function versionOf(name: string): string {
  const { version } = createRequire(import.meta.url)(`${name}/package.json`);
  return String(version);
}

/** Progress goes to stderr, so that stdout is the report alone. */
function say(message: string): void {
  console.error(message);
}

const stopping = new AbortController();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(name, () => stopping.abort(new Error(`Stopped by ${name}.`)));
}

try {
  await bench(readOptions(), stopping.signal);
} catch (error) {
  const shown = stopping.signal.aborted ? stopping.signal.reason : error;
  console.error(shown instanceof Error ? shown.message : String(shown));
  process.exitCode = 1;
}
