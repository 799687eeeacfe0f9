/**
 * @module
 * What the guard costs: the same calls on the gateway and on one without it, in turn, with a
 * key that both know already. Ratios are made within a round.
 */
import { pick, range, TARGETED } from "./cases.ts";
import { FILE, type GatewayClient, type Session } from "./client.ts";
import { driveFor } from "./load.ts";
import { median, type Spread, spread } from "./stats.ts";

const WARM_MS = 80;

/** `ping` is no hot path: it writes no record, so that it shows the guard at its most. */
const CALLS: Readonly<Record<string, { readonly method: string; readonly params?: object }>> = {
  "read_audit_log, limit 1": {
    method: "tools/call",
    params: { name: "read_audit_log", arguments: { limit: 1 } },
  },
  read_file: {
    method: "tools/call",
    params: { name: "read_file", arguments: { path: FILE.path } },
  },
  ping: { method: "ping" },
};

export type GuardRow = {
  readonly call: string;
  readonly guarded_calls_per_second: number;
  readonly open_calls_per_second: number;
  readonly ratio: Spread;
};

/** A gateway, and as many sessions on it as are asked at the same time. */
export type Side = { readonly client: GatewayClient; readonly sessions: readonly Session[] };

export async function measureGuard(
  { guarded, open }: { readonly guarded: Side; readonly open: Side },
  { rounds, sliceMs }: { readonly rounds: number; readonly sliceMs: number },
  signal: AbortSignal,
): Promise<GuardRow[]> {
  const rows: GuardRow[] = [];
  for (const [call, { method, params }] of Object.entries(CALLS)) {
    const slice = async ({ client, sessions }: Side) => {
      const lanes = range(TARGETED.clients).map((at) =>
        client.repeat(pick(sessions, at % TARGETED.sessions), method, params),
      );
      const time = { warmMs: WARM_MS, measureMs: sliceMs };
      const { calls, seconds } = await driveFor(client.url, lanes, time, signal);
      return calls / seconds;
    };
    const withIt: number[] = [];
    const without: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const ways = [
        async () => withIt.push(await slice(guarded)),
        async () => without.push(await slice(open)),
      ];
      // Each goes first in turn: the machine may slow down within a round.
      for (const way of round % 2 === 0 ? ways : ways.toReversed()) await way();
    }
    rows.push({
      call,
      guarded_calls_per_second: median(withIt),
      open_calls_per_second: median(without),
      ratio: spread(withIt.map((rate, round) => rate / (without[round] ?? Number.NaN))),
    });
  }
  return rows;
}
