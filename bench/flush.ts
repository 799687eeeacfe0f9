/**
 * @module
 * What archiving costs and how fast it is. One gateway archives every second,
 * another not until a session ends: calls on one session of each, in turn,
 * tell what flushing takes from the calls beside it. The second one's backlog,
 * flushed at the end, tells how fast each sink is and what memory that takes.
 */
import { PostgresArchive } from "../src/archive/postgres.ts";
import { GATEWAY_LOGIN, prepareDatabase } from "../src/cli/postgres/database.ts";
import { freePort } from "../src/cli/postgres/local.ts";
import { PostgresServer } from "../src/cli/postgres/server.ts";
import { sampleSession } from "../test/archive/sample-session.ts";
import type { GatewayClient, Session } from "./client.ts";
import type { Host } from "./host.ts";
import { driveCalls, driveFor, type Lane } from "./load.ts";
import { median } from "./stats.ts";

const LANES = 8;
const WARM_MS = 100;
const POLL_MS = 100;
/** Batches for PostgreSQL, of as many records as a flush sends. */
const POSTGRES_BATCHES = 40;
const BATCH_RECORDS = 500;
const PASSWORD = "bench";

export type FlushPace = {
  readonly rounds: number;
  readonly sliceMs: number;
  /** Records of the session whose backlog is flushed. */
  readonly backlog: number;
};

export type FlushResults = {
  /** Calls per second beside a flush every second, over those without any: medians. */
  readonly ratio: number;
  readonly backlog: number;
  /** Records per second. */
  readonly d1: number;
  readonly segments: number;
  readonly postgres: number;
  /** By which workerd grew while the backlog was flushed; null where it cannot be read. */
  readonly grewBytes: number | null;
};

export type FlushHosts = {
  /** Archives every second. */
  readonly eager: { readonly host: Host; readonly client: GatewayClient };
  /** Archives when a session ends. */
  readonly patient: { readonly host: Host; readonly client: GatewayClient };
};

export async function measureFlush(
  { eager, patient }: FlushHosts,
  pace: FlushPace,
  postgresDir: string,
  signal: AbortSignal,
): Promise<FlushResults> {
  const sides = await Promise.all(
    [eager, patient].map(async ({ client }) => {
      const session = await client.openSession("/srv/bench/flush");
      return { client, session, rates: [] as number[] };
    }),
  );
  const time = { warmMs: WARM_MS, measureMs: pace.sliceMs };
  for (let round = 0; round < pace.rounds; round++) {
    for (const { client, session, rates } of sides) {
      const load = await driveFor(client.url, lanesOn(client, session), time, signal);
      rates.push(load.calls / load.seconds);
    }
  }
  const [beside = [], without = []] = sides.map(({ rates }) => rates);
  return {
    ratio: median(beside) / median(without),
    backlog: pace.backlog,
    ...(await measureBacklog(patient, pace.backlog, signal)),
    postgres: await measurePostgres(postgresDir),
  };
}

async function measureBacklog(
  { host, client }: FlushHosts["patient"],
  backlog: number,
  signal: AbortSignal,
): Promise<Pick<FlushResults, "d1" | "segments" | "grewBytes">> {
  const session = await client.openSession("/srv/bench/backlog");
  await driveCalls(client.url, lanesOn(client, session), backlog, signal);
  const before = host.rssBytes();
  let peak = before ?? 0;
  const wait = async (done: () => Promise<boolean>): Promise<number> => {
    const start = performance.now();
    while (!(await done())) {
      signal.throwIfAborted();
      peak = Math.max(peak, host.rssBytes() ?? 0);
      await new Promise((wake) => setTimeout(wake, POLL_MS));
    }
    return (performance.now() - start) / 1000;
  };
  await client.endSession(session);
  const archiving = await wait(async () => (await client.archived(session)) >= backlog);
  const segmenting = await wait(() => client.erased(session));
  return {
    d1: backlog / archiving,
    segments: backlog / segmenting,
    grewBytes: before === null ? null : peak - before,
  };
}

/** PostgreSQL on this machine's disk, sent what a flush sends. */
async function measurePostgres(dir: string): Promise<number> {
  const server = await PostgresServer.create({
    dataDir: dir,
    port: await freePort(),
    password: PASSWORD,
  });
  await server.start();
  try {
    await prepareDatabase(server, PASSWORD);
    const archive = new PostgresArchive(server.url("postgres", GATEWAY_LOGIN, PASSWORD));
    const batches = Array.from({ length: POSTGRES_BATCHES }, () =>
      sampleSession(
        Array.from({ length: BATCH_RECORDS }, (_, n) => ({
          tool: "read_audit_log",
          args: { limit: 1, after_seq: n },
        })),
      ),
    );
    const start = performance.now();
    for (const { row, records } of batches) await archive.write(row, records, ["read_audit_log"]);
    const seconds = (performance.now() - start) / 1000;
    return batches.reduce((sum, { records }) => sum + records.length, 0) / seconds;
  } finally {
    await server.stop();
  }
}

function lanesOn(client: GatewayClient, session: Session): Lane[] {
  const lane = client.repeat(session, "tools/call", {
    name: "read_audit_log",
    arguments: { limit: 1 },
  });
  return Array.from({ length: LANES }, () => lane);
}
