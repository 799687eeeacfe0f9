/**
 * @module
 * Twelve clients at once, each on its own session and workspace, each sending
 * its next call as soon as it has the answer to the last: how long a call may
 * take then.
 */
import { range, writeLane } from "./cases.ts";
import { FILE, type GatewayClient, type Session } from "./client.ts";
import { driveFor, type Lane } from "./load.ts";
import { percentile } from "./stats.ts";

const CLIENTS = 12;
const WARM_MS = 200;

export type TwelveClients = {
  readonly callsPerSecond: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
};

export async function measureTwelveClients(
  client: GatewayClient,
  measureMs: number,
  signal: AbortSignal,
): Promise<TwelveClients> {
  const sessions = await Promise.all(
    range(CLIENTS).map((at) => client.openSession(`/srv/bench/client-${at}`)),
  );
  const lanes = sessions.map((session, at) => mixedLane(client, session, at));
  const load = await driveFor(client.url, lanes, { warmMs: WARM_MS, measureMs }, signal);
  return {
    callsPerSecond: load.calls / load.seconds,
    p50: percentile(load.latencies, 50),
    p99: percentile(load.latencies, 99),
    max: percentile(load.latencies, 100),
  };
}

/** Mostly reads, some changes, a page of the log now and then; clients begin at different places. */
function mixedLane(client: GatewayClient, session: Session, offset: number): Lane {
  const tool = (name: string, args: object) =>
    client.repeat(session, "tools/call", { name, arguments: args });
  const read = tool("read_file", { path: FILE.path });
  const write = writeLane(client, session, offset);
  const turns: readonly Lane[] = [
    read,
    tool("list_files", {}),
    write,
    read,
    tool("read_audit_log", {}),
    read,
    write,
    client.repeat(session, "ping"),
    read,
    client.repeat(session, "tools/list"),
  ];
  let at = offset;
  return () => {
    const turn = turns[at % turns.length] ?? read;
    at += 1;
    return turn();
  };
}
