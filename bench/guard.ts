/**
 * @module
 * What the guard costs: the same calls on the gateway and on one without it, in turn, with a
 * key that both know already. Ratios are made within a round.
 */
import { pick, range, TARGETED } from "./cases.ts";
import { FILE, type GatewayClient, type Session } from "./client.ts";
import type { Host } from "./host.ts";
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
  /** Processor time of a call in all rounds, in µs; null where it cannot be read. It scatters less than the rates do. */
  readonly guarded_cpu_us: number | null;
  readonly open_cpu_us: number | null;
};

/** A gateway, and as many sessions on it as are asked at the same time. */
export type Side = {
  readonly host: Host;
  readonly client: GatewayClient;
  readonly sessions: readonly Session[];
};

type Slice = { readonly rate: number; readonly calls: number; readonly cpuMs: number | null };

export async function measureGuard(
  { guarded, open }: { readonly guarded: Side; readonly open: Side },
  { rounds, sliceMs }: { readonly rounds: number; readonly sliceMs: number },
  signal: AbortSignal,
): Promise<GuardRow[]> {
  const rows: GuardRow[] = [];
  for (const [call, { method, params }] of Object.entries(CALLS)) {
    const slice = async ({ host, client, sessions }: Side): Promise<Slice> => {
      const lanes = range(TARGETED.clients).map((at) =>
        client.repeat(pick(sessions, at % TARGETED.sessions), method, params),
      );
      const time = { warmMs: WARM_MS, measureMs: sliceMs };
      let begun: number | null = null;
      let cpuMs: number | null = null;
      const { calls, seconds } = await driveFor(client.url, lanes, time, signal, {
        start: () => {
          begun = host.cpuMs();
        },
        end: () => {
          const now = host.cpuMs();
          cpuMs = begun === null || now === null ? null : now - begun;
        },
      });
      return { rate: calls / seconds, calls, cpuMs };
    };
    const withIt: Slice[] = [];
    const without: Slice[] = [];
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
      guarded_calls_per_second: median(withIt.map(({ rate }) => rate)),
      open_calls_per_second: median(without.map(({ rate }) => rate)),
      ratio: spread(withIt.map(({ rate }, round) => rate / (without[round]?.rate ?? Number.NaN))),
      guarded_cpu_us: cpuOfCall(withIt),
      open_cpu_us: cpuOfCall(without),
    });
  }
  return rows;
}

function cpuOfCall(slices: readonly Slice[]): number | null {
  let ms = 0;
  let calls = 0;
  for (const slice of slices) {
    if (slice.cpuMs === null) return null;
    ms += slice.cpuMs;
    calls += slice.calls;
  }
  return (ms * 1000) / calls;
}
