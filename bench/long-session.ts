/**
 * @module
 * Whether the cost of a call grows with the session: one session is taken to
 * its n-th call, one call after the other. Its last calls are measured in turn
 * with those of a session that is new then, since the machine may have changed
 * pace in between.
 */
import { writeLane } from "./cases.ts";
import { FILE, type GatewayClient, type Session } from "./client.ts";
import { driveCalls, type Lane } from "./load.ts";

/** Calls before the first measured ones. */
const BEFORE = 100;
const WINDOW = 500;
/** Calls of the old session and of the new one alternate in so many. */
const TURN = 50;
/** Between the windows nothing is measured, and several calls may be under way. */
const FILLING_LANES = 8;

export type LongSession = {
  readonly calls: number;
  /** Calls per second of calls 100 to 600. */
  readonly early: number;
  /** Of the last 500. */
  readonly late: number;
  /** Of calls 100 to 600 of a new session, in turn with those. */
  readonly beside: number;
};

export async function measureLongSession(
  client: GatewayClient,
  calls: number,
  signal: AbortSignal,
): Promise<LongSession> {
  const old = await client.openSession("/srv/bench/long");
  const lane = mixedLane(client, old);
  const run = async (of: Lane, count: number) =>
    (await driveCalls(client.url, [of], count, signal)).seconds;
  await run(lane, BEFORE);
  const early = await run(lane, WINDOW);
  const filling = Array.from({ length: FILLING_LANES }, () => mixedLane(client, old));
  await driveCalls(client.url, filling, calls - BEFORE - 2 * WINDOW, signal);
  const fresh = mixedLane(client, await client.openSession("/srv/bench/fresh"));
  await run(fresh, BEFORE);
  let late = 0;
  let beside = 0;
  for (let done = 0; done < WINDOW; done += TURN) {
    late += await run(lane, TURN);
    beside += await run(fresh, TURN);
  }
  return { calls, early: WINDOW / early, late: WINDOW / late, beside: WINDOW / beside };
}

/** A planned change between reads, as an agent works. */
function mixedLane(client: GatewayClient, session: Session): Lane {
  const tool = (name: string, args: object) =>
    client.repeat(session, "tools/call", { name, arguments: args });
  const readFile = tool("read_file", { path: FILE.path });
  const turns: Lane[] = [
    readFile,
    tool("read_audit_log", { limit: 1 }),
    readFile,
    writeLane(client, session, 0),
  ];
  let at = 0;
  return () => {
    const turn = turns[at % turns.length] ?? readFile;
    at += 1;
    return turn();
  };
}
