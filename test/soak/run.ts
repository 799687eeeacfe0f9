/**
 * @module
 * `npm run soak -- --minutes N`: a gateway with a real PostgreSQL under mixed
 * load, while a random fault hits every few seconds. It ends with an audit of
 * every receipt and a report; exit code 1 when anything was lost or changed.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { PostgresArchive } from "../../src/archive/postgres.ts";
import { exportLine } from "../../src/audit/record.ts";
import { exportLines, problemsOf, readLine } from "../e2e/support/chain.ts";
import { eventually } from "../e2e/support/eventually.ts";
import { Gateway } from "../e2e/support/gateway.ts";
import { Operator } from "../e2e/support/operator.ts";
import { approvedPlan } from "../e2e/support/plans.ts";
import { PostgresProxy } from "../postgres/support/proxy.ts";
import { startServer } from "../postgres/support/server.ts";
import { Clients } from "./clients.ts";
import { type Arena, FAULTS } from "./faults.ts";

const USAGE = "npm run soak -- [--minutes N] [--lanes N]";
const ROOT = "/srv/soak";
/** Between two faults: at most. */
const CALM_MS = 3_000;
/** A sink that has failed often is asked again after minutes. */
const CATCH_UP_MS = 6 * 60_000;
const MAX_SHOWN = 20;

function readOptions(): { minutes: number; lanes: number } {
  const { values } = parseArgs({
    options: {
      minutes: { type: "string", default: "10" },
      lanes: { type: "string", default: "8" },
    },
  });
  const [minutes, lanes] = [Number(values.minutes), Number(values.lanes)];
  if (!(minutes > 0) || !(lanes > 0)) throw new Error(`Usage: ${USAGE}`);
  return { minutes, lanes };
}

async function soak(minutes: number, lanes: number): Promise<boolean> {
  const postgres = await startServer();
  const proxy = await PostgresProxy.start(postgres.port);
  let gateway: Gateway | null = null;
  try {
    gateway = await Gateway.start({
      vars: { FLUSH_INTERVAL_SECONDS: "1" },
      flags: ["--postgres-url", proxy.through(postgres.gatewayUrl)],
    });
    const clients = new Clients(gateway, {
      root: ROOT,
      planHash: await approvedPlan(gateway, ROOT),
    });
    const arena: Arena = { postgres, proxy, gateway, clients };
    clients.start(lanes);
    const met = await faultsUntil(Date.now() + minutes * 60_000, arena);
    await clients.stop();
    console.log("Auditing every receipt.");
    const problems = [...clients.failures, ...(await audit(arena))];
    report(clients, met, problems);
    return problems.length === 0;
  } finally {
    await gateway?.dispose();
    await proxy.close();
    await postgres.dispose();
  }
}

async function faultsUntil(deadline: number, arena: Arena): Promise<Map<string, number>> {
  const met = new Map<string, number>();
  while (Date.now() < deadline) {
    await sleep(Math.random() * CALM_MS);
    const fault = FAULTS[Math.floor(Math.random() * FAULTS.length)];
    if (fault === undefined) continue;
    console.log(`${arena.clients.receipts.length} calls answered; now ${fault.name}`);
    await fault.run(arena);
    met.set(fault.name, (met.get(fault.name) ?? 0) + 1);
  }
  return met;
}

/** Everything that was lost, doubled or changed, in words. */
async function audit({ gateway, postgres, clients }: Arena): Promise<string[]> {
  const operator = new Operator(gateway.url, gateway.keys.operator);
  const archive = new PostgresArchive(postgres.url);
  const problems: string[] = [];
  const byPlace = new Map<string, string>();
  for (const id of clients.sessions) {
    const text = await operator.export(id);
    const lines = exportLines(text);
    problems.push(...problemsOf(text, { tenant: "default", id }).map((what) => `${id} ${what}`));
    const stored = await eventually(
      `the archive has ${lines.length} records of ${id}`,
      async () => {
        const found = await archive.page(id, 0, lines.length + 1);
        return found.length >= lines.length ? found : null;
      },
      CATCH_UP_MS,
    );
    if (stored.length > lines.length) problems.push(`${id}: more records than there were calls`);
    stored.forEach((record, at) => {
      if (exportLine(record) !== lines[at]) problems.push(`${id} ${record.seq}: changed`);
    });
    for (const line of lines) {
      const { seq, hash_chain } = readLine(line);
      byPlace.set(`${id} ${seq}`, String(hash_chain));
    }
  }
  for (const { session_id, seq, hash_chain } of clients.receipts) {
    if (byPlace.get(`${session_id} ${seq}`) !== hash_chain) {
      problems.push(`${session_id} ${seq}: not what was acknowledged`);
    }
  }
  return problems;
}

function report(
  clients: Clients,
  met: ReadonlyMap<string, number>,
  problems: readonly string[],
): void {
  console.log(
    `\n${clients.receipts.length} receipts of ${clients.sessions.size} sessions audited.`,
  );
  for (const [name, times] of [...met].sort())
    console.log(`${String(times).padStart(4)} × ${name}`);
  for (const problem of problems.slice(0, MAX_SHOWN)) console.log(`PROBLEM  ${problem}`);
  console.log(
    problems.length === 0
      ? "Every acknowledged record is in the archive once, and every chain holds."
      : `${problems.length} problems.`,
  );
}

try {
  const { minutes, lanes } = readOptions();
  process.exitCode = (await soak(minutes, lanes)) ? 0 : 1;
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
